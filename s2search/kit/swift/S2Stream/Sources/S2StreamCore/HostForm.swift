// What a host must know of a package: the field "host" of its manifest.json. As HostForm in s2search/exporters/host.py.

import Foundation

/// How sums of linear attention take up a chunk: added to all before, weighed then, or one slot per chunk.
public enum Memory: String, Decodable {
    case running
    case window
    case decay
}

/// Who keeps keys, values and tails: the host, or Core ML in one state, "past".
public enum Keeper: String, Decodable {
    case host
    case coreML = "core_ml"
}

/// A row of keys and values.
public struct KeptRing: Decodable {
    public let layer: Int
    public let frameTokens: Int

    enum CodingKeys: String, CodingKey {
        case layer
        case frameTokens = "frame_tokens"
    }
}

/// A row of tails: the frames that a causal convolution still reaches.
public struct KeptTail: Decodable {
    public let layer: Int
    public let frames: Int
    public let frameTokens: Int

    enum CodingKeys: String, CodingKey {
        case layer, frames
        case frameTokens = "frame_tokens"
    }
}

/// A row of sums: of every head S transposed, and z.
public struct KeptSums: Decodable {
    public let layer: Int
    public let heads: Int
    public let memory: Memory
    public let decay: Double
}

public struct HostForm: Decodable {
    /// C, T, Y and X.
    public let latents: [Int]
    /// W tokens of E channels.
    public let text: [Int]
    /// Of the sinusoids of the noise level.
    public let timeChannels: Int
    /// Whether a part of the velocity is the host's to add.
    public let residual: Bool
    public let channels: Int
    /// Frames of a full ring.
    public let slots: Int
    /// The first of them, which stay for ever once the ring is full.
    public let sinkFrames: Int
    /// Of sums that are kept per chunk.
    public let chunkSlots: Int
    /// The first of them, likewise.
    public let sinkChunks: Int
    public let rings: [KeptRing]
    public let tails: [KeptTail]
    public let sums: [KeptSums]
    public let keeper: Keeper

    enum CodingKeys: String, CodingKey {
        case latents, text, residual, channels, slots, rings, tails, sums, keeper
        case timeChannels = "time_channels"
        case sinkFrames = "sink_frames"
        case chunkSlots = "chunk_slots"
        case sinkChunks = "sink_chunks"
    }

    /// Latent frames of a chunk.
    public var frames: Int {
        return latents[1]
    }

    /// Frames of a chunk that a ring can hold.
    public var ringFrames: Int {
        return min(frames, slots)
    }

    /// Tokens of a frame, of the rings that differ in it: each has a row of past_bias.
    public var grids: [Int] {
        var found: [Int] = []
        for ring in rings {
            if !found.contains(ring.frameTokens) {
                found.append(ring.frameTokens)
            }
        }
        return found.sorted()
    }

    /// Frames of a chunk that become a layer's tail.
    public func tailFrames(_ tail: KeptTail) -> Int {
        return min(frames, tail.frames)
    }

    /// K of a layer.
    public func headChannels(_ one: KeptSums) -> Int {
        return channels / one.heads
    }

    /// Slots of chunks of a layer: 1 where all chunks are added up.
    public func slotsOf(_ one: KeptSums) -> Int {
        return one.memory == .window ? chunkSlots : 1
    }

    /// The shapes of all inputs and outputs of the package's functions.
    public func shapes() -> [String: [Int]] {
        let rows = latents[1] * latents[2]
        var found: [String: [Int]] = [:]
        found["latents"] = [1, latents[0], rows, padded(latents[3])]
        found["velocity"] = [1, latents[0], rows, padded(latents[3])]
        found["time"] = [1, 1, 1, padded(timeChannels)]
        found["text"] = [1, text[1], 1, padded(text[0])]
        if !rings.isEmpty {
            let tokens = grids[grids.count - 1]
            found["past_bias"] = [grids.count, 1, 1, padded((slots + frames) * tokens)]
        }
        addKept(&found)
        if !sums.isEmpty {
            addSums(&found)
        }
        return found
    }

    private func addKept(_ found: inout [String: [Int]]) {
        var kept: [String: [Int]] = [:]
        if !rings.isEmpty {
            let tokens = grids[grids.count - 1]
            kept["keys"] = [rings.count, channels, 1, padded(slots * tokens)]
            kept["values"] = [rings.count, channels, 1, padded(slots * tokens)]
            kept["new_keys"] = [rings.count, channels, 1, padded(ringFrames * tokens)]
            kept["new_values"] = [rings.count, channels, 1, padded(ringFrames * tokens)]
        }
        if !tails.isEmpty {
            var old = 0
            var new = 0
            for tail in tails {
                old = max(old, tail.frames * tail.frameTokens)
                new = max(new, tailFrames(tail) * tail.frameTokens)
            }
            kept["tails"] = [tails.count, channels, 1, padded(old)]
            kept["new_tails"] = [tails.count, channels, 1, padded(new)]
        }
        if keeper == .coreML {
            kept = inOne(kept)
        }
        for (name, shape) in kept {
            found[name] = shape
        }
    }

    /// The shape of the one state that holds all rows: keys, values, then tails.
    private func inOne(_ kept: [String: [Int]]) -> [String: [Int]] {
        var rows = 0
        var width = 0
        for name in ["keys", "values", "tails"] {
            if let shape = kept[name] {
                rows = rows + shape[0]
                width = max(width, shape[3])
            }
        }
        if rows == 0 {
            return [:]
        }
        return ["past": [rows, channels, 1, width], "new_past": [rows, channels, 1, width]]
    }

    private func addSums(_ found: inout [String: [Int]]) {
        var width = 0
        var old = 0
        var new = 0
        for one in sums {
            width = max(width, headChannels(one))
            old = max(old, channels + 2 * one.heads)
            new = max(new, channels + one.heads)
        }
        found["sums"] = [sums.count, 1, old, padded(width)]
        found["new_sums"] = [sums.count, 1, new, padded(width)]
    }
}

/// Return how long a last axis of so many numbers is: a multiple of 32, which is 64 bytes of float16.
public func padded(_ count: Int) -> Int {
    return (count + 31) / 32 * 32
}
