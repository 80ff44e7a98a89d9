// Numbers with a shape, the last axis innermost: float16 for what goes in and comes out, float32 for what is computed.

import Foundation

/// What a package takes and returns.
public struct HalfTensor: Equatable {
    public let shape: [Int]
    public var bits: [UInt16]

    public init(shape: [Int], bits: [UInt16]) {
        precondition(bits.count == shape.reduce(1, *), "the numbers do not fill the shape")
        self.shape = shape
        self.bits = bits
    }

    /// Zeros.
    public init(shape: [Int]) {
        self.shape = shape
        self.bits = [UInt16](repeating: 0, count: shape.reduce(1, *))
    }
}

/// Latents, velocities, a prompt's tokens, and sums.
public struct FloatTensor: Equatable {
    public let shape: [Int]
    public var values: [Float]

    public init(shape: [Int], values: [Float]) {
        precondition(values.count == shape.reduce(1, *), "the numbers do not fill the shape")
        self.shape = shape
        self.values = values
    }

    /// Zeros.
    public init(shape: [Int]) {
        self.shape = shape
        self.values = [Float](repeating: 0, count: shape.reduce(1, *))
    }
}
