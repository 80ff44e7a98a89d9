// From noise to a chunk, in few steps or along the flow: as s2search/streaming/sampler.py and flow_sampler.py.
// x_s = (1 - s) z + s eps is what the network sees at the noise level s, v = eps - z is what it says.

import Foundation

/// What the next chunks see of this one: what the last step's pass saw, or the clean chunk, by a pass of its own.
public enum Commit: String, Decodable {
    case reuseLast = "reuse_last"
    case cleanPass = "clean_pass"
}

/// How a model was trained to stream: the field "causal" of its config.
public struct CausalForm: Decodable {
    public let commit: Commit
    /// Noise level at which past chunks are seen.
    public let level: Double
    /// Of few steps; nil where the model follows the flow in many.
    public let schedule: [Double]?
}

/// What a sampler asks of a model and its stream; `VideoStream` is one, on Core ML.
public protocol ChunkModel {
    /// Return standard normal noise, other one at each call.
    func fresh() -> FloatTensor
    /// Return the velocity of latents at a noise level.
    func read(_ x: FloatTensor, _ s: Double) throws -> FloatTensor
    /// Return the velocity, and take the chunk up into the state.
    func advance(_ x: FloatTensor, _ s: Double) throws -> FloatTensor
    /// Take the chunk up into the state.
    func commit(_ x: FloatTensor, _ s: Double) throws
}

public struct Sampler {
    /// Noise levels at which the network is asked, from 1 down; after the last one comes 0.
    public let schedule: [Double]
    public let commit: Commit
    /// Noise level at which a chunk is committed.
    public let level: Double
    /// Whether it follows the flow by Euler steps; else every step but the last is followed by fresh noise.
    public let followsFlow: Bool

    /// As the weights were trained; `steps` and `shift` choose the schedule where they leave it open.
    public init(_ causal: CausalForm?, steps: Int? = nil, shift: Double = 5.0) {
        let flows = causal != nil && causal!.schedule == nil
        let few = fewStepSchedule(steps ?? (flows ? 50 : 4), shift)
        let own = causal?.schedule ?? few
        let policy = causal?.commit ?? .reuseLast
        let last = policy == .reuseLast ? own[own.count - 1] : 0.0
        schedule = own
        commit = policy
        level = flows ? causal!.level : last
        followsFlow = flows
    }

    /// Whether the last denoising pass is "advance", which leaves the new state as well; else "commit" comes after it.
    public var commitsWithLastStep: Bool {
        return commit == .reuseLast && !followsFlow
    }

    /// Return the next chunk's clean latents (C, T, Y, X); the model's state has it afterwards.
    public func nextChunk(_ model: ChunkModel) throws -> FloatTensor {
        var x = model.fresh()
        for step in 0..<schedule.count {
            let s = schedule[step]
            let last = step + 1 == schedule.count
            if last && commitsWithLastStep {
                let v = try model.advance(x, s)
                return clean(x, s, v)
            }
            let v = try model.read(x, s)
            if last && !followsFlow {
                x = clean(x, s, v)
            } else {
                x = next(step, x, v, noise: followsFlow ? x : model.fresh())
            }
        }
        let seen = level > 0 ? renoise(x, level, model.fresh()) : x
        try model.commit(seen, level)
        return x
    }

    /// Return the latents of the next step.
    ///
    /// - Parameters:
    ///   - step: Number of the step that was made, from 0.
    ///   - noise: Fresh normal noise; the flow does not look at it.
    public func next(_ step: Int, _ x: FloatTensor, _ v: FloatTensor, noise: FloatTensor) -> FloatTensor {
        let s = schedule[step]
        let later = step + 1 < schedule.count ? schedule[step + 1] : 0.0
        if followsFlow {
            return moved(x, later - s, v)
        }
        return renoise(clean(x, s, v), later, noise)
    }
}

/// Return the noise levels 1, (steps - 1) / steps, ..., 1 / steps, pushed towards 1 by a shift.
public func fewStepSchedule(_ steps: Int, _ shift: Double) -> [Double] {
    var levels: [Double] = []
    for step in 0..<steps {
        let s = Double(steps - step) / Double(steps)
        levels.append(shift * s / ((1 - s) + shift * s))
    }
    return levels
}

/// Return the clean latents that x at the noise level s and a velocity point to.
public func clean(_ x: FloatTensor, _ s: Double, _ v: FloatTensor) -> FloatTensor {
    var z = x
    for place in 0..<x.values.count {
        z.values[place] = x.values[place] - Float(s) * v.values[place]
    }
    return z
}

/// Return the latents z at the noise level s.
public func renoise(_ z: FloatTensor, _ s: Double, _ noise: FloatTensor) -> FloatTensor {
    var x = z
    for place in 0..<z.values.count {
        x.values[place] = Float(1 - s) * z.values[place] + Float(s) * noise.values[place]
    }
    return x
}

/// Return the latents an Euler step on: of a difference of noise levels.
public func moved(_ x: FloatTensor, _ change: Double, _ v: FloatTensor) -> FloatTensor {
    var later = x
    for place in 0..<x.values.count {
        later.values[place] = x.values[place] + Float(change) * v.values[place]
    }
    return later
}
