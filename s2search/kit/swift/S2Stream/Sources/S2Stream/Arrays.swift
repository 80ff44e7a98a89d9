// Core ML's arrays and ours. float16 is copied by its bits.

#if canImport(CoreML)
import CoreML
import Foundation
import S2StreamCore

enum Arrays {
    static func feature(_ tensor: HalfTensor) throws -> MLFeatureValue {
        let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: .float16)
        array.withUnsafeMutableBytes { raw, strides in
            let numbers = raw.bindMemory(to: UInt16.self)
            let rows = Rows(tensor.shape, strides)
            for row in 0..<rows.starts.count {
                for column in 0..<rows.width {
                    numbers[rows.starts[row] + column * rows.step] = tensor.bits[row * rows.width + column]
                }
            }
        }
        return MLFeatureValue(multiArray: array)
    }

    static func feature(_ tensor: FloatTensor, dtype: String) throws -> MLFeatureValue {
        if dtype == "float16" {
            return try feature(HalfTensor(shape: tensor.shape, bits: tensor.values.map { Half.bits(Double($0)) }))
        }
        let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: .float32)
        array.withUnsafeMutableBytes { raw, strides in
            let numbers = raw.bindMemory(to: Float.self)
            let rows = Rows(tensor.shape, strides)
            for row in 0..<rows.starts.count {
                for column in 0..<rows.width {
                    numbers[rows.starts[row] + column * rows.step] = tensor.values[row * rows.width + column]
                }
            }
        }
        return MLFeatureValue(multiArray: array)
    }

    static func half(_ array: MLMultiArray) throws -> HalfTensor {
        guard array.dataType == .float16 else {
            throw StreamError.unexpected("an output that is not float16")
        }
        var tensor = HalfTensor(shape: array.shape.map { $0.intValue })
        let rows = Rows(tensor.shape, array.strides.map { $0.intValue })
        array.withUnsafeBytes { raw in
            let numbers = raw.bindMemory(to: UInt16.self)
            for row in 0..<rows.starts.count {
                for column in 0..<rows.width {
                    tensor.bits[row * rows.width + column] = numbers[rows.starts[row] + column * rows.step]
                }
            }
        }
        return tensor
    }

    static func floats(_ array: MLMultiArray) throws -> FloatTensor {
        if array.dataType == .float16 {
            let tensor = try half(array)
            return FloatTensor(shape: tensor.shape, values: tensor.bits.map { Half.value($0) })
        }
        guard array.dataType == .float32 else {
            throw StreamError.unexpected("an output that is neither float16 nor float32")
        }
        var tensor = FloatTensor(shape: array.shape.map { $0.intValue })
        let rows = Rows(tensor.shape, array.strides.map { $0.intValue })
        array.withUnsafeBytes { raw in
            let numbers = raw.bindMemory(to: Float.self)
            for row in 0..<rows.starts.count {
                for column in 0..<rows.width {
                    tensor.values[row * rows.width + column] = numbers[rows.starts[row] + column * rows.step]
                }
            }
        }
        return tensor
    }
}
#endif
