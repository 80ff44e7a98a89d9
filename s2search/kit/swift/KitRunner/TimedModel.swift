// One row, loaded: its inputs, and predictions timed back to back. A model with Core ML states (rings and tails, unless
// the kit was built with --state plain) gets new ones for every sample, made outside the time that is taken: zeros.

import CoreML
import Foundation

final class TimedModel {
    let loadMs: Double
    /// The first prediction's time.
    private(set) var firstMs: Double?
    private(set) var warmUps = 0
    private(set) var settled = false
    private(set) var repetitions = 1
    /// What the app took before this model was loaded, after, after its first prediction, and when it had settled.
    var memory: AppMemory? { AppMemory(before: before, load: loaded, first: first, steady: steady) }

    private let before: Footprint?
    private let loaded: Footprint?
    private var first: Footprint?
    private var steady: Footprint?
    private let model: MLModel
    private let inputs: MLDictionaryFeatureProvider
    private let stateful: Bool

    init(_ url: URL, package: Package, computeUnit: String) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = try TimedModel.units(computeUnit)
        configuration.functionName = package.function
        before = Footprint.now()
        let begin = nanoseconds()
        model = try MLModel(contentsOf: url, configuration: configuration)
        loadMs = milliseconds(since: begin)
        stateful = !model.modelDescription.stateDescriptionsByName.isEmpty
        var values: [String: MLFeatureValue] = [:]
        for input in package.inputs {
            values[input.name] = MLFeatureValue(multiArray: try TimedModel.array(input))
        }
        inputs = try MLDictionaryFeatureProvider(dictionary: values)
        loaded = Footprint.now()
    }

    /// Predict until the last five times agree, and choose how many predictions make one sample.
    func warmUp(_ rules: KitProtocol, singleCalls: Bool) throws {
        var times: [Double] = []
        while times.count < rules.warmUpCalls {
            times.append(try predict(1))
            if times.count == 1 {
                firstMs = times[0]
                first = Footprint.now()
            }
            let last = times.suffix(5).sorted()
            if last.count == 5, last[4] - last[0] <= rules.settledSpread * last[2] {
                settled = true
                break
            }
        }
        warmUps = times.count
        steady = Footprint.now()
        let last = times.suffix(5).sorted()
        repetitions = singleCalls ? 1 : max(1, Int((rules.leastSampleMs / max(last[last.count / 2], 0.001)).rounded(.up)))
    }

    /// Return the milliseconds of one prediction, the mean of a sample's.
    func sample() throws -> Double {
        try predict(repetitions)
    }

    private func predict(_ count: Int) throws -> Double {
        try autoreleasepool {
            if stateful {
                let state = model.makeState()
                let begin = nanoseconds()
                for _ in 0..<count { _ = try model.prediction(from: inputs, using: state) }
                return milliseconds(since: begin) / Double(count)
            }
            let begin = nanoseconds()
            for _ in 0..<count { _ = try model.prediction(from: inputs) }
            return milliseconds(since: begin) / Double(count)
        }
    }

    private static func units(_ name: String) throws -> MLComputeUnits {
        switch name {
        case "cpu_and_neural_engine": return .cpuAndNeuralEngine
        case "cpu_and_gpu": return .cpuAndGPU
        case "cpu_only": return .cpuOnly
        case "all": return .all
        default: throw KitError.input("no compute units are called \(name)")
        }
    }

    /// Return an array of numbers drawn evenly between the input's extremes, the same every time.
    private static func array(_ input: Input) throws -> MLMultiArray {
        let exact = input.dtype == "float32"
        let array = try MLMultiArray(
            shape: input.shape.map { NSNumber(value: $0) }, dataType: exact ? .float32 : .float16)
        var random = Random()
        if exact {
            array.withUnsafeMutableBufferPointer(ofType: Float32.self) { numbers, _ in
                for place in numbers.indices { numbers[place] = Float32(random.next(input.low, input.high)) }
            }
        } else {
            array.withUnsafeMutableBufferPointer(ofType: Float16.self) { numbers, _ in
                for place in numbers.indices { numbers[place] = Float16(random.next(input.low, input.high)) }
            }
        }
        return array
    }
}

/// A linear congruential generator (Knuth, MMIX).
struct Random {
    private var state: UInt64 = 1

    mutating func next(_ low: Double, _ high: Double) -> Double {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return low + (high - low) * Double(state >> 11) / Double(1 << 53)
    }
}

func nanoseconds() -> UInt64 {
    clock_gettime_nsec_np(CLOCK_UPTIME_RAW)
}

/// Seconds since the phone was started, those asleep included: a clock that nobody sets.
func secondsSinceStart() -> Double {
    Double(clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW)) / 1e9
}

func milliseconds(since begin: UInt64) -> Double {
    Double(nanoseconds() - begin) / 1e6
}
