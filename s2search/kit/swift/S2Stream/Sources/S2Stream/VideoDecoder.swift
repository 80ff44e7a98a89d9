// A decoder's package: "first" where a stream begins, "next" from then on.

#if canImport(CoreML)
import CoreML
import Foundation
import S2StreamCore

public final class VideoDecoder {
    private let manifest: PackageManifest
    private let functions: Functions
    private var held: MLState?
    private var cache: Features = [:]
    private var begun = false

    public init(_ folder: URL, computeUnits: MLComputeUnits = .cpuAndNeuralEngine) async throws {
        manifest = try PackageManifest.read(folder)
        let names = ["first", "next"]
        functions = try await Functions(folder, manifest.functions, names: names, computeUnits: computeUnits)
        try restart()
    }

    /// Forget the stream.
    public func restart() throws {
        begun = false
        cache = [:]
        held = try functions.makeState("next")
    }

    /// Return the frames (1, 3, frames, rows, columns), from -1 to 1, of a chunk's latents (C, T, Y, X).
    public func decode(_ latents: FloatTensor) throws -> FloatTensor {
        let name = begun ? "next" : "first"
        guard let input = manifest.function(name)?.inputs.first(where: { $0.name == "latents" }) else {
            throw StreamError.missing("the decoder has no function \(name) that takes latents")
        }
        var given = cache
        let batch = FloatTensor(shape: [1] + latents.shape, values: latents.values)
        given["latents"] = try Arrays.feature(batch, dtype: input.dtype)
        let outputs = try functions.call(name, given, state: held)
        begun = true
        cache = [:]
        for (output, feature) in outputs where output.hasPrefix("new_") {
            cache[String(output.dropFirst("new_".count))] = feature
        }
        guard let video = outputs["video"]?.multiArrayValue else {
            throw StreamError.missing("the decoder returns no video")
        }
        return try Arrays.floats(video)
    }
}
#endif
