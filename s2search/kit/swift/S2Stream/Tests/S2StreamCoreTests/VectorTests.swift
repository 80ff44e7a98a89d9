// The host's arithmetic gives what Python's gives, bit for bit: Vectors were written by tests/kit/swift_vectors.py.

import Foundation
import XCTest

@testable import S2StreamCore

final class VectorTests: XCTestCase {
    func testStreamsAreThoseOfPython() throws {
        let cases: [StreamCase] = try read("streams.json")
        XCTAssertFalse(cases.isEmpty)
        for one in cases {
            XCTAssertEqual(one.host.shapes(), one.shapes, one.name)
            check(one)
        }
    }

    func testHalvesAreRoundedAsPythonDoes() throws {
        let cases: [HalfCase] = try read("halves.json")
        for one in cases {
            XCTAssertEqual(Half.bits(one.number), one.bits, "\(one.number)")
        }
        for bits in UInt16(0)..<0x7C00 {
            XCTAssertEqual(Half.bits(Double(Half.value(bits))), bits)
        }
    }

    func testStepsOfTheSamplerAreThoseOfPython() throws {
        let one: SamplerCase = try read("sampler.json")
        for schedule in one.schedules {
            XCTAssertEqual(fewStepSchedule(schedule.steps, schedule.shift), schedule.levels)
        }
        let sampler = Sampler(nil)
        let s = sampler.schedule[one.step]
        XCTAssertEqual(clean(one.x.tensor, s, one.v.tensor), one.clean.tensor)
        XCTAssertEqual(sampler.next(one.step, one.x.tensor, one.v.tensor, noise: one.noise.tensor), one.renoised.tensor)
        let flow = Sampler(CausalForm(commit: .cleanPass, level: 0, schedule: nil), steps: 4)
        XCTAssertEqual(flow.next(one.step, one.x.tensor, one.v.tensor, noise: one.noise.tensor), one.moved.tensor)
    }

    func testRowsSkipTheGapsBetweenThem() {
        let rows = Rows([2, 3, 4], [60, 16, 1])
        XCTAssertEqual(rows.starts, [0, 16, 32, 60, 76, 92])
        XCTAssertEqual(rows.width, 4)
        XCTAssertEqual(rows.step, 1)
    }

    func testNoiseIsStandardNormalAndFollowsItsSeed() {
        var noise = Noise(seed: 1)
        var again = Noise(seed: 1)
        let drawn = noise.draw([10_000])
        XCTAssertEqual(drawn, again.draw([10_000]))
        XCTAssertNotEqual(drawn, noise.draw([10_000]))
        let mean = drawn.values.reduce(0, +) / 10_000
        let square = drawn.values.reduce(0) { $0 + $1 * $1 } / 10_000
        XCTAssertEqual(mean, 0, accuracy: 0.05)
        XCTAssertEqual(square, 1, accuracy: 0.06)
    }

    private func check(_ one: StreamCase) {
        let host = Host(one.host)
        var draws = Draws()
        let latents = draws.floats(one.host.latents)
        let text = draws.floats(one.host.text)
        var state = host.start()
        var looked = 0
        var chunk = 0
        while looked < one.looks.count {
            let look = one.looks[looked]
            if look.chunk == chunk {
                compare(host, state, look, latents, text, one.name)
                let output = draws.output("velocity", one.shapes["velocity"]!)
                let velocity = host.velocity(output, latents: latents, s: look.s)
                XCTAssertEqual(velocity, look.velocity.tensor, "\(one.name): velocity of chunk \(chunk)")
                looked += 1
            }
            var outputs: [String: HalfTensor] = [:]
            for name in one.shapes.keys.sorted() where name.hasPrefix("new_") {
                outputs[name] = draws.output(name, one.shapes[name]!)
            }
            state = host.after(state, outputs)
            chunk += 1
        }
    }

    private func compare(
        _ host: Host, _ state: HostState, _ look: Look, _ latents: FloatTensor, _ text: FloatTensor, _ name: String
    ) {
        XCTAssertEqual(state.isEmpty, look.empty, name)
        let inputs = host.inputs(latents: latents, s: look.s, text: text)
        let given = inputs.merging(host.past(state)) { input, _ in input }
        for (input, expected) in look.inputs {
            XCTAssertEqual(given[input], expected.tensor, "\(name): \(input) of chunk \(look.chunk)")
        }
        if look.chunk == 0 {
            XCTAssertEqual(Set(given.keys), Set(look.inputs.keys), name)
        }
    }

    private func read<Content: Decodable>(_ file: String) throws -> Content {
        let folder = try XCTUnwrap(Bundle.module.resourceURL)
        let url = folder.appendingPathComponent("Vectors").appendingPathComponent(file)
        return try JSONDecoder().decode(Content.self, from: Data(contentsOf: url))
    }
}

struct StreamCase: Decodable {
    let name: String
    let host: HostForm
    let shapes: [String: [Int]]
    let looks: [Look]
}

struct Look: Decodable {
    let chunk: Int
    let s: Double
    let empty: Bool
    let inputs: [String: HalfNumbers]
    let velocity: FloatNumbers
}

struct HalfNumbers: Decodable {
    let shape: [Int]
    let bits: [UInt16]

    var tensor: HalfTensor {
        return HalfTensor(shape: shape, bits: bits)
    }
}

struct FloatNumbers: Decodable {
    let shape: [Int]
    let values: [Double]

    var tensor: FloatTensor {
        return FloatTensor(shape: shape, values: values.map { Float($0) })
    }
}

struct HalfCase: Decodable {
    let number: Double
    let bits: UInt16
}

struct ScheduleCase: Decodable {
    let steps: Int
    let shift: Double
    let levels: [Double]
}

struct SamplerCase: Decodable {
    let schedules: [ScheduleCase]
    let x: FloatNumbers
    let v: FloatNumbers
    let noise: FloatNumbers
    let step: Int
    let clean: FloatNumbers
    let renoised: FloatNumbers
    let moved: FloatNumbers
}

/// What a package would return, drawn as tests/kit/swift_vectors.py draws it.
struct Draws {
    private var state: UInt64 = 1

    private mutating func whole() -> Float {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 53)
    }

    mutating func floats(_ shape: [Int]) -> FloatTensor {
        var drawn = FloatTensor(shape: shape)
        for place in 0..<drawn.values.count {
            drawn.values[place] = (whole() - 1024) / 700
        }
        return drawn
    }

    mutating func output(_ name: String, _ shape: [Int]) -> HalfTensor {
        var drawn = HalfTensor(shape: shape)
        let lowest: Float = name == "new_sums" ? 0 : 1024
        for place in 0..<drawn.bits.count {
            drawn.bits[place] = Half.bits(Double((whole() - lowest) / 512))
        }
        return drawn
    }
}
