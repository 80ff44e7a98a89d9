// Where the rows of an array begin in memory: Core ML may leave gaps between them.

import Foundation

public struct Rows {
    /// Place of every row's first number, row after row.
    public let starts: [Int]
    /// Numbers of a row.
    public let width: Int
    /// From a number to the next one of its row.
    public let step: Int

    /// - Parameters:
    ///   - shape: Of the array; rows are along its last axis.
    ///   - strides: From a number to the next one of an axis, per axis.
    public init(_ shape: [Int], _ strides: [Int]) {
        let last = shape.count - 1
        var found: [Int] = [0]
        for axis in 0..<last {
            var more: [Int] = []
            for start in found {
                for index in 0..<shape[axis] {
                    more.append(start + index * strides[axis])
                }
            }
            found = more
        }
        starts = found
        width = shape[last]
        step = strides[last]
    }
}
