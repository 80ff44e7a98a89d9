// The arithmetic around a package's calls, function by function that of Host in s2search/exporters/host.py.

import Foundation

/// What a stream remembers. A value: it is never changed, `Host.after` returns the next one.
public struct HostState {
    /// How many latent frames the rings hold, 0 at first.
    public var frames: Int
    /// "keys", "values" and "tails", or "past" where Core ML keeps those.
    public var kept: [String: HalfTensor]
    /// (L, C, A (K + 1), K): S transposed and z of every head, C chunks apart.
    public var sums: FloatTensor?

    /// Whether it remembers nothing: then "first" computes what "denoise" does.
    public var isEmpty: Bool {
        return frames == 0
    }
}

/// How the frames of a layer's row are laid out.
struct RowSize {
    let slots: Int
    let added: Int
    let tokens: Int
}

public struct Host {
    public let form: HostForm
    private let shapes: [String: [Int]]

    public init(_ form: HostForm) {
        self.form = form
        self.shapes = form.shapes()
    }

    /// Return a state that remembers nothing.
    public func start() -> HostState {
        var kept: [String: HalfTensor] = [:]
        for name in ["keys", "values", "tails", "past"] {
            if let shape = shapes[name] {
                kept[name] = HalfTensor(shape: shape)
            }
        }
        var sums: FloatTensor? = nil
        if let shape = shapes["new_sums"] {
            var slots = 0
            for one in form.sums {
                slots = max(slots, form.slotsOf(one))
            }
            sums = FloatTensor(shape: [shape[0], slots, shape[2], shape[3]])
        }
        return HostState(frames: 0, kept: kept, sums: sums)
    }

    // Before a call.

    /// Return what every function takes beside the past.
    ///
    /// - Parameters:
    ///   - latents: (C, T, Y, X).
    ///   - s: Noise level, from 0 (clean) to 1 (noise).
    ///   - text: (W, E).
    public func inputs(latents: FloatTensor, s: Double, text: FloatTensor) -> [String: HalfTensor] {
        var given: [String: HalfTensor] = [:]
        given["latents"] = widened(latents.values, form.latents[3], shapes["latents"]!)
        given["text"] = channelsFirst(text)
        var time = HalfTensor(shape: shapes["time"]!)
        let waves = sinusoids(s)
        for place in 0..<waves.count {
            time.bits[place] = Half.bits(waves[place])
        }
        given["time"] = time
        return given
    }

    /// Return cosines, then sines, of the time 1000 s at geometric frequencies.
    public func sinusoids(_ s: Double) -> [Double] {
        let half = form.timeChannels / 2
        var waves = [Double](repeating: 0, count: 2 * half)
        for place in 0..<half {
            let angle = 1000.0 * s * exp(-log(10000.0) / Double(half) * Double(place))
            waves[place] = cos(angle)
            waves[half + place] = sin(angle)
        }
        return waves
    }

    /// Return what functions take of a state. It is the same for every pass of a chunk.
    public func past(_ state: HostState) -> [String: HalfTensor] {
        var given = state.kept
        if !form.rings.isEmpty {
            given["past_bias"] = pastBias(state.frames)
        }
        if let sums = state.sums {
            given["sums"] = sharedSums(sums)
        }
        return given
    }

    /// Return what is added to the scores of keys: it hides frames that are not there.
    public func pastBias(_ frames: Int) -> HalfTensor {
        var bias = HalfTensor(shape: shapes["past_bias"]!)
        let width = bias.shape[3]
        let masked = Half.bits(-10000.0)
        let grids = form.grids
        for row in 0..<grids.count {
            for place in 0..<((form.slots - frames) * grids[row]) {
                bias.bits[row * width + place] = masked
            }
        }
        return bias
    }

    /// Return S, z and the chunk's share of every head, the first two times the share.
    public func sharedSums(_ kept: FloatTensor) -> HalfTensor {
        var given = HalfTensor(shape: shapes["sums"]!)
        let rows = given.shape[2]
        let width = given.shape[3]
        for layer in 0..<form.sums.count {
            let one = form.sums[layer]
            let across = form.headChannels(one)
            for head in 0..<one.heads {
                let added = addedUp(kept, layer, head * (across + 1), across)
                var largest: Float = 1
                for column in 0..<across {
                    largest = max(largest, added[across * across + column])
                }
                let share = min(largestShare(form.frames), powerOfTwoBelow(1 / largest))
                let first = (layer * rows + head * (across + 2)) * width
                for row in 0..<(across + 2) {
                    for column in 0..<across {
                        // The last row of a head is the share itself.
                        let number = row <= across ? share * added[row * across + column] : share
                        given.bits[first + row * width + column] = Half.bits(Double(number))
                    }
                }
            }
        }
        return given
    }

    /// Return the K + 1 rows of a head, from a row on, of all chunks together.
    private func addedUp(_ kept: FloatTensor, _ layer: Int, _ begin: Int, _ across: Int) -> [Float] {
        let slots = kept.shape[1]
        let rows = kept.shape[2]
        let width = kept.shape[3]
        var added = [Float](repeating: 0, count: (across + 1) * across)
        for row in 0..<(across + 1) {
            for column in 0..<across {
                var number = kept.values[(layer * slots * rows + begin + row) * width + column]
                for slot in 1..<max(slots, 1) {
                    number = number + kept.values[((layer * slots + slot) * rows + begin + row) * width + column]
                }
                added[row * across + column] = number
            }
        }
        return added
    }

    // After a call.

    /// Return the velocity (C, T, Y, X); a residual is added to the velocity of unit Gaussian latents.
    public func velocity(_ output: HalfTensor, latents: FloatTensor, s: Double) -> FloatTensor {
        let columns = form.latents[3]
        let width = output.shape[3]
        var velocity = FloatTensor(shape: form.latents)
        let gain = Float((2 * s - 1) / (1 - 2 * s + 2 * s * s))
        for place in 0..<velocity.values.count {
            let number = Half.value(output.bits[place / columns * width + place % columns])
            velocity.values[place] = form.residual ? number + gain * latents.values[place] : number
        }
        return velocity
    }

    /// Return the state with a chunk added: what is new of it goes into rings, tails and sums.
    public func after(_ state: HostState, _ outputs: [String: HalfTensor]) -> HostState {
        let full = state.frames >= form.slots
        var later = state
        later.frames = min(state.frames + form.frames, form.slots)
        for name in ["keys", "values"] {
            if let kept = state.kept[name] {
                var sizes: [RowSize] = []
                for ring in form.rings {
                    sizes.append(RowSize(slots: form.slots, added: form.ringFrames, tokens: ring.frameTokens))
                }
                later.kept[name] = ringAfter(kept, outputs["new_" + name]!, sizes, full ? form.sinkFrames : 0)
            }
        }
        if let kept = state.kept["tails"] {
            var sizes: [RowSize] = []
            for tail in form.tails {
                sizes.append(RowSize(slots: tail.frames, added: form.tailFrames(tail), tokens: tail.frameTokens))
            }
            later.kept["tails"] = ringAfter(kept, outputs["new_tails"]!, sizes, 0)
        }
        if state.kept["past"] != nil {
            later.kept["past"] = outputs["new_past"]!
        }
        if let sums = state.sums {
            later.sums = sumsAfter(sums, outputs["new_sums"]!, full ? form.sinkChunks : 0)
        }
        return later
    }

    /// Return rings with a chunk's frames at their ends; the first slots, `sinks`, stay.
    private func ringAfter(_ kept: HalfTensor, _ new: HalfTensor, _ sizes: [RowSize], _ sinks: Int) -> HalfTensor {
        var later = kept
        let width = kept.shape[3]
        let newWidth = new.shape[3]
        for row in 0..<(sizes.count * kept.shape[1]) {
            let size = sizes[row / kept.shape[1]]
            for place in (min(sinks, size.slots) * size.tokens)..<(size.slots * size.tokens) {
                let source = place + size.added * size.tokens
                let end = size.slots * size.tokens
                let moved = source < end ? kept.bits[row * width + source] : new.bits[row * newWidth + source - end]
                later.bits[row * width + place] = moved
            }
        }
        return later
    }

    /// Return the sums with a chunk's, added in float32.
    private func sumsAfter(_ kept: FloatTensor, _ new: HalfTensor, _ sinks: Int) -> FloatTensor {
        var later = kept
        let slots = kept.shape[1]
        let rows = kept.shape[2]
        let width = kept.shape[3]
        for layer in 0..<form.sums.count {
            let one = form.sums[layer]
            let held = form.slotsOf(one)
            for row in 0..<(form.channels + one.heads) {
                for column in 0..<form.headChannels(one) {
                    let added = Half.value(new.bits[(layer * new.shape[2] + row) * new.shape[3] + column])
                    let first = (layer * slots * rows + row) * width + column
                    if one.memory == .window {
                        for slot in min(sinks, held)..<held {
                            let next = first + (slot + 1) * rows * width
                            later.values[first + slot * rows * width] = slot + 1 < held ? kept.values[next] : added
                        }
                    } else {
                        let sum = kept.values[first] + added
                        later.values[first] = one.memory == .decay ? Float(one.decay) * sum : sum
                    }
                }
            }
        }
        return later
    }

    /// Return rows of so many columns as float16, zeros after each.
    private func widened(_ values: [Float], _ columns: Int, _ shape: [Int]) -> HalfTensor {
        var wide = HalfTensor(shape: shape)
        for place in 0..<values.count {
            wide.bits[place / columns * shape[3] + place % columns] = Half.bits(Double(values[place]))
        }
        return wide
    }

    /// Return tokens (W, E) as (1, E, 1, W).
    private func channelsFirst(_ text: FloatTensor) -> HalfTensor {
        var turned = HalfTensor(shape: shapes["text"]!)
        let channels = form.text[1]
        for token in 0..<form.text[0] {
            for channel in 0..<channels {
                let number = text.values[token * channels + channel]
                turned.bits[channel * turned.shape[3] + token] = Half.bits(Double(number))
            }
        }
        return turned
    }
}

/// Return what a chunk's sums are multiplied with where little or nothing came before: at most 1 / (4 T).
public func largestShare(_ frames: Int) -> Float {
    var share: Float = 1
    while share * Float(4 * frames) > 1 {
        share = share / 2
    }
    return share
}

/// Return the largest power of 2 up to a positive number.
public func powerOfTwoBelow(_ number: Float) -> Float {
    if number == 0 {
        return 0.5  // as Python's frexp has it: of sums beyond float32 there is no right share
    }
    return Float(sign: .plus, exponent: Int(number.exponent), significand: 1)
}
