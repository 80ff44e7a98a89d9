// The steady loop: group after group of rows in memory, slot after slot of the manifest's order, each sample on disk
// before the next is begun. What is on disk already is not measured again. Then sustained load, if the manifest asks for
// it: each group's part of the order again and again, without a pause; a break starts that group's load anew.

import Foundation

final class MeasuringLoop {
    private static let mostDeaths = 2
    /// Whole rounds that the last third of sustained load must hold.
    private static let leastRounds = 3

    private let folder: URL
    private let manifest: Manifest
    private let journal: Journal
    private let arguments: Arguments
    private let show: (String) -> Void

    init(arguments: Arguments, show: @escaping (String) -> Void) throws {
        let documents = try FileManager.default.url(
            for: .documentDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        folder = documents.appendingPathComponent("kit")
        manifest = try Manifest.read(folder.appendingPathComponent("manifest.json"))
        journal = try Journal(folder.appendingPathComponent("steady.jsonl"), crashed: arguments.crashed)
        self.arguments = arguments
        self.show = show
    }

    func run(battery: Battery, os: String) throws {
        try journal.append(SessionLine(
            kit: arguments.kit, machine: machine(), os: os, thermal: thermal(),
            lowPowerMode: ProcessInfo.processInfo.isLowPowerModeEnabled, battery: battery.level,
            charging: battery.charging, crashed: arguments.crashed))
        var given = arguments.skip.union(journal.failed)
        for row in Set(journal.deaths) where journal.deaths.filter({ $0 == row }).count >= Self.mostDeaths {
            if given.insert(row).inserted {
                try fail(row, "load", "out_of_memory", "the app died twice while it loaded this row")
            }
        }
        for group in manifest.groups.indices { try measure(group, &given) }
        if let seconds = manifest.kitProtocol.sustainedS {
            for (group, rows) in manifest.groups.enumerated() where !journal.heated.contains(group) {
                if !given.isSuperset(of: rows) { try heat(group, seconds, &given) }
            }
        }
        try journal.append(DoneLine())
    }

    private func measure(_ group: Int, _ given: inout Set<Int>) throws {
        func isLeft(_ slot: Slot) -> Bool {
            slot.group == group && !given.contains(slot.row) && !journal.sampled.contains(slot.slot)
        }
        let slots = manifest.order.filter(isLeft)
        var models = try load(Set(slots.map(\.row)), &given)
        for (number, slot) in slots.enumerated() {
            guard let model = models[slot.row] else { continue }
            show("\(slots.count - number) samples left in group \(group + 1) of \(manifest.groups.count)")
            try coolDown()
            let before = thermal()
            do {
                let ms = try model.sample()
                try journal.append(SampleLine(
                    slot: slot.slot, round: slot.round, row: slot.row, sentinel: slot.sentinel, ms: ms,
                    thermal: before, thermalAfter: thermal()))
            } catch let error as KitError {
                throw error
            } catch {
                models[slot.row] = nil
                given.insert(slot.row)
                try fail(slot.row, "predict", "error", "\(error)")
            }
        }
    }

    /// Time a group's slots over and over, never waiting for the phone to cool, for so many seconds: until a round ends
    /// with enough whole rounds in the last third. Seconds count from the end of the first sample, as `kit ingest` counts.
    private func heat(_ group: Int, _ seconds: Double, _ given: inout Set<Int>) throws {
        let slots = manifest.order.filter { $0.group == group }
        var models = try load(Set(slots.map(\.row)).subtracting(given), &given)
        try journal.append(HeatingLine(group: group))
        var begin: UInt64?
        var roundStarts: [Double] = []
        func passed() -> Double { begin.map { milliseconds(since: $0) / 1000 } ?? 0 }
        var lap = 0
        while !models.isEmpty {
            var last: Int?
            for slot in slots {
                if slot.round != last {
                    let end = passed()
                    if end >= seconds, roundStarts.filter({ $0 >= end * 2 / 3 }).count >= Self.leastRounds {
                        try journal.append(HeatedLine(group: group, seconds: end))
                        return
                    }
                    roundStarts.append(end)
                    last = slot.round
                    show("sustained load: \(Int(end)) of \(Int(seconds)) s, group \(group + 1) of \(manifest.groups.count)")
                }
                guard let model = models[slot.row] else { continue }
                let before = thermal()
                do {
                    let ms = try model.sample()
                    if begin == nil { begin = nanoseconds() }
                    try autoreleasepool {
                        try journal.append(HotLine(
                            slot: slot.slot, lap: lap, row: slot.row, sentinel: slot.sentinel, ms: ms,
                            thermal: before, thermalAfter: thermal()), synced: false)
                    }
                } catch let error as KitError {
                    throw error
                } catch {
                    models[slot.row] = nil
                    given.insert(slot.row)
                    try fail(slot.row, "predict", "error", "\(error)")
                }
            }
            lap += 1
        }
    }

    /// Load rows; those that cannot be loaded are given up.
    private func load(_ ids: Set<Int>, _ given: inout Set<Int>) throws -> [Int: TimedModel] {
        var models: [Int: TimedModel] = [:]
        for row in manifest.rows where ids.contains(row.id) {
            show("loading row \(row.id + 1) of \(manifest.rows.count)")
            models[row.id] = try load(row)
            if models[row.id] == nil { given.insert(row.id) }
        }
        return models
    }

    /// Load a row and let it settle; return nil where it cannot be loaded.
    private func load(_ row: Row) throws -> TimedModel? {
        let package = try manifest.package(of: row)
        let url = folder.appendingPathComponent(package.compiledName)
        try journal.append(LoadingLine(row: row.id))
        do {
            try coolDown()
            let model = try TimedModel(url, package: package, computeUnit: row.computeUnit)
            try model.warmUp(manifest.kitProtocol, singleCalls: row.singleCalls)
            try journal.append(ReadyLine(
                row: row.id, loadMs: model.loadMs, warmUps: model.warmUps, settled: model.settled,
                repetitions: model.repetitions, firstMs: model.firstMs, memory: model.memory))
            return model
        } catch let error as KitError {
            throw error
        } catch {
            try fail(row.id, "load", "error", "\(error)")
            return nil
        }
    }

    /// Wait while the phone is too hot, as long as the manifest allows, and note it.
    private func coolDown() throws {
        let hot = thermal()
        guard isTooHot(hot) else { return }
        let begin = nanoseconds()
        while isTooHot(thermal()), milliseconds(since: begin) < 1000 * manifest.kitProtocol.coolDownS {
            show("cooling down")
            Thread.sleep(forTimeInterval: 5)
        }
        try journal.append(PauseLine(
            thermal: hot, seconds: milliseconds(since: begin) / 1000, thermalAfter: thermal()))
    }

    private func fail(_ row: Int, _ stage: String, _ reason: String, _ message: String) throws {
        try journal.append(FailedLine(row: row, stage: stage, reason: reason, message: String(message.prefix(300))))
    }
}

func thermal() -> String {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return "nominal"
    case .fair: return "fair"
    case .serious: return "serious"
    case .critical: return "critical"
    @unknown default: return "critical"
    }
}

func isTooHot(_ state: String) -> Bool {
    state == "serious" || state == "critical"
}

/// The phone's model identifier, such as iPhone17,2.
func machine() -> String {
    var system = utsname()
    uname(&system)
    return withUnsafeBytes(of: &system.machine) { bytes in
        String(decoding: bytes.prefix(while: { $0 != 0 }), as: UTF8.self)
    }
}
