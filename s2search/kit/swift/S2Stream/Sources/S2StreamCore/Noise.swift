// Standard normal noise from a seed, on any machine the same. It is not the noise that torch draws from that seed.

import Foundation

public struct Noise {
    private var state: UInt64

    public init(seed: UInt64) {
        state = seed
    }

    /// Return as many fresh numbers as a tensor of this shape has (Box and Muller, 1958).
    public mutating func draw(_ shape: [Int]) -> FloatTensor {
        var drawn = FloatTensor(shape: shape)
        for place in 0..<drawn.values.count {
            let radius = sqrt(-2.0 * log(uniform()))
            drawn.values[place] = Float(radius * cos(2.0 * Double.pi * uniform()))
        }
        return drawn
    }

    /// Return a number above 0, at most 1 (SplitMix64: Steele and others, 2014).
    private mutating func uniform() -> Double {
        state = state &+ 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        mixed = mixed ^ (mixed >> 31)
        return (Double(mixed >> 11) + 1.0) / 9007199254740992.0
    }
}
