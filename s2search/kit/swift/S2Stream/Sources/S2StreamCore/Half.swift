// float16 by its 16 bits: Swift's own Float16 is missing on Intel Macs and on some Linux, and a ring only moves bits.

import Foundation

public enum Half {
    /// Return the nearest float16, of two as near the even one; what is larger than all becomes an infinity.
    ///
    /// It takes a Double, so that nothing is rounded twice; every Float is one exactly.
    public static func bits(_ number: Double) -> UInt16 {
        let negative: UInt16 = number.sign == .minus ? 0x8000 : 0
        if number.isNaN {
            return negative | 0x7E00
        }
        let size = number.magnitude
        if size >= 65520.0 {
            return negative | 0x7C00
        }
        if size < leastNormal {
            // Neighbours are 2^-24 apart. 1024 steps are the bits of the least normal number, as they should be.
            return negative | UInt16((size * 16777216.0).rounded(.toNearestOrEven))
        }
        let exponent = Int(size.exponent)
        let steps = Double(sign: .plus, exponent: 10 - exponent, significand: size).rounded(.toNearestOrEven)
        // The leading one of 1024 to 2048 steps adds one to the exponent, and where it was rounded up, two.
        return negative | UInt16((exponent + 14) * 1024 + Int(steps))
    }

    /// Return the number, exactly.
    public static func value(_ bits: UInt16) -> Float {
        let exponent = (Int(bits) / 1024) % 32
        let fraction = Int(bits) % 1024
        var size: Float = 0
        if exponent == 31 {
            size = fraction == 0 ? Float.infinity : Float.nan
        } else if exponent == 0 {
            size = Float(fraction) / Float(16777216)
        } else {
            size = Float(sign: .plus, exponent: exponent - 25, significand: Float(1024 + fraction))
        }
        return Int(bits) >= 32768 ? -size : size
    }

    private static let leastNormal = 0.00006103515625
}
