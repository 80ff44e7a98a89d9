// The lines of steady.jsonl, schema s2search.kit_results/1. Names become snake_case; nil is left out.

import Foundation

protocol Line: Encodable {
    var kind: String { get }
    var n: Int { get set }
    var at: String { get set }
}

struct SessionLine: Line {
    let kind = "session"
    var n = 0
    var at = ""
    let kit: String
    let machine: String
    let os: String
    let thermal: String
    let lowPowerMode: Bool
    let battery: Double
    let charging: Bool
    let crashed: Bool
}

struct LoadingLine: Line {
    let kind = "loading"
    var n = 0
    var at = ""
    let row: Int
}

struct ReadyLine: Line {
    let kind = "ready"
    var n = 0
    var at = ""
    let row: Int
    let loadMs: Double
    let warmUps: Int
    let settled: Bool
    let repetitions: Int
    let firstMs: Double?
    let memory: AppMemory?
}

struct SampleLine: Line {
    let kind = "sample"
    var n = 0
    var at = ""
    let slot: Int
    let round: Int
    let row: Int
    let sentinel: Bool
    let ms: Double
    let thermal: String
    let thermalAfter: String
    var clockS = secondsSinceStart()
}

struct HeatingLine: Line {
    let kind = "heating"
    var n = 0
    var at = ""
    let group: Int
}

struct HotLine: Line {
    let kind = "hot"
    var n = 0
    var at = ""
    let slot: Int
    let lap: Int
    let row: Int
    let sentinel: Bool
    let ms: Double
    let thermal: String
    let thermalAfter: String
    var clockS = secondsSinceStart()
}

struct HeatedLine: Line {
    let kind = "heated"
    var n = 0
    var at = ""
    let group: Int
    let seconds: Double
}

struct PauseLine: Line {
    let kind = "pause"
    var n = 0
    var at = ""
    let thermal: String
    let seconds: Double
    let thermalAfter: String
}

struct FailedLine: Line {
    let kind = "failed"
    var n = 0
    var at = ""
    let row: Int
    let stage: String
    let reason: String
    let message: String
}

struct DoneLine: Line {
    let kind = "done"
    var n = 0
    var at = ""
}
