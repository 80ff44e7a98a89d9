// A stream of chunks: the loop of docs/host.md around a model in one package, or in a chain of them.

#if canImport(CoreML)
import CoreML
import Foundation
import S2StreamCore

public final class VideoStream {
    public let sampler: Sampler

    private let parts: [Part]
    private var noise: Noise

    /// - Parameters:
    ///   - packages: Folders of s2search, in the order in which data flow. What one returns, later ones may take.
    ///   - sampler: By default the one that the weights were trained with.
    public init(
        _ packages: [URL], seed: UInt64, sampler: Sampler? = nil,
        computeUnits: MLComputeUnits = .cpuAndNeuralEngine
    ) async throws {
        var loaded: [Part] = []
        for folder in packages {
            let names = ["first", "denoise", "commit", "advance"]
            loaded.append(try Part(await Functions(folder, names: names, computeUnits: computeUnits)))
        }
        guard let first = loaded.first else {
            throw StreamError.missing("a stream needs a package")
        }
        parts = loaded
        noise = Noise(seed: seed)
        self.sampler = sampler ?? Sampler(first.functions.manifest.model?.causal)
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
        let shape = host.form.latents
        var x = noise.draw(shape)
        for step in 0..<sampler.schedule.count {
            let s = sampler.schedule[step]
            let last = step + 1 == sampler.schedule.count
            if last && sampler.commitsWithLastStep {
                let v = try velocity("advance", x, s, text)
                return clean(x, s, v)
            }
            let v = try velocity(reading, x, s, text)
            let fresh = last || sampler.followsFlow ? FloatTensor(shape: shape) : noise.draw(shape)
            x = sampler.next(step, x, v, noise: fresh)
        }
        let seen = sampler.level > 0 ? renoise(x, sampler.level, noise.draw(shape)) : x
        _ = try run("commit", seen, sampler.level, text)
        return x
    }

    private var host: Host {
        return parts[0].host
    }

    /// What denoises: "first" reads no past and takes less time.
    private var reading: String {
        let empty = parts.allSatisfy { $0.state.isEmpty && $0.functions.has("first") }
        return empty ? "first" : "denoise"
    }

    private func velocity(_ function: String, _ x: FloatTensor, _ s: Double, _ text: FloatTensor) throws -> FloatTensor {
        let outputs = try run(function, x, s, text)
        guard let array = outputs["velocity"]?.multiArrayValue else {
            throw StreamError.missing("\(function) returns no velocity")
        }
        return host.velocity(try Arrays.half(array), latents: x, s: s)
    }

    /// Call a function of every package, each with what those before it returned; the state takes up what is new.
    private func run(_ function: String, _ x: FloatTensor, _ s: Double, _ text: FloatTensor) throws -> Features {
        var given = try features(host.inputs(latents: x, s: s, text: text))
        for part in parts {
            let outputs = try part.call(function, given)
            if function == "advance" || function == "commit" {
                try part.take(outputs)
            }
            for (name, feature) in outputs where !name.hasPrefix("new_") {
                given[name] = feature
            }
        }
        return given
    }
}
#endif
