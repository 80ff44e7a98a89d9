// A stream of chunks: the loop of docs/host.md around a model in one package, or in a chain of them.

#if canImport(CoreML)
import CoreML
import Foundation
import S2StreamCore

/// For one thread at a time.
public final class VideoStream: ChunkModel {
    public let sampler: Sampler

    private let parts: [Part]
    private var noise: Noise
    private var text: FloatTensor

    /// - Parameters:
    ///   - packages: Folders that s2search wrote: one, whose manifest lists the links of a chain. Several are run in
    ///     the order in which they are given.
    ///   - sampler: By default the one that the weights were trained with.
    public init(
        _ packages: [URL], seed: UInt64, sampler: Sampler? = nil,
        computeUnits: MLComputeUnits = .cpuAndNeuralEngine
    ) async throws {
        let names = ["first", "denoise", "commit", "advance"]
        var loaded: [Part] = []
        var model: ModelConfig?
        for folder in packages {
            let manifest = try PackageManifest.read(folder)
            model = model ?? manifest.model
            for link in manifest.links {
                let functions = try await Functions(folder, link.functions, names: names, computeUnits: computeUnits)
                loaded.append(try Part(functions, link.host))
            }
        }
        guard let first = loaded.first else {
            throw StreamError.missing("a stream needs a package that was not exported with state=plain")
        }
        parts = loaded
        noise = Noise(seed: seed)
        text = FloatTensor(shape: first.host.form.text)
        self.sampler = sampler ?? Sampler(model?.causal)
    }

    /// Begin a new stream.
    public func restart(seed: UInt64) throws {
        noise = Noise(seed: seed)
        for part in parts {
            try part.restart()
        }
    }

    /// Return the next chunk's clean latents (C, T, Y, X). The prompt's tokens (W, E) may change from chunk to chunk.
    public func nextChunk(text: FloatTensor) throws -> FloatTensor {
        self.text = text
        return try sampler.nextChunk(self)
    }

    // What the sampler asks.

    public func fresh() -> FloatTensor {
        return noise.draw(host.form.latents)
    }

    public func read(_ x: FloatTensor, _ s: Double) throws -> FloatTensor {
        return try velocity(reading, x, s)
    }

    public func advance(_ x: FloatTensor, _ s: Double) throws -> FloatTensor {
        return try velocity("advance", x, s)
    }

    public func commit(_ x: FloatTensor, _ s: Double) throws {
        _ = try run("commit", x, s)
    }

    private var host: Host {
        return parts[0].host
    }

    /// What denoises: "first" reads no past and takes less time.
    private var reading: String {
        let empty = parts.allSatisfy { $0.state.isEmpty && $0.functions.has("first") }
        return empty ? "first" : "denoise"
    }

    private func velocity(_ function: String, _ x: FloatTensor, _ s: Double) throws -> FloatTensor {
        let outputs = try run(function, x, s)
        guard let array = outputs["velocity"]?.multiArrayValue else {
            throw StreamError.missing("\(function) returns no velocity")
        }
        return host.velocity(try Arrays.half(array), latents: x, s: s)
    }

    /// Call a function of every package, each with what those before it returned in this very call; the state takes up
    /// what is new.
    private func run(_ function: String, _ x: FloatTensor, _ s: Double) throws -> Features {
        var given = try features(host.inputs(latents: x, s: s, text: text))
        var returned: [Features] = []
        for part in parts {
            let outputs = try part.call(function, given)
            returned.append(outputs)
            for (name, feature) in outputs where !name.hasPrefix("new_") {
                given[name] = feature
            }
        }
        if function == "advance" || function == "commit" {
            for (part, outputs) in zip(parts, returned) {  // only now: a call that fails leaves the stream as it was
                try part.take(outputs)
            }
        }
        return given
    }
}
#endif
