// steady.jsonl on the phone: one line per event, appended and synced before the next thing is begun. A loop that dies
// leaves at most one torn line at the end, which the next one drops.

import Foundation

final class Journal {
    private(set) var sampled: Set<Int> = []
    private(set) var failed: Set<Int> = []
    /// Groups whose sustained load has lasted long enough.
    private(set) var heated: Set<Int> = []
    /// Rows during whose loading the app died, once per death.
    private(set) var deaths: [Int] = []

    private let descriptor: Int32
    private var lines = 0
    private var loading: Int?
    private let encoder = JSONEncoder()
    private let times = ISO8601DateFormatter()

    init(_ url: URL, crashed: Bool) throws {
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = .withoutEscapingSlashes
        times.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
        descriptor = open(url.path, O_RDWR | O_CREAT | O_APPEND, 0o644)
        guard descriptor >= 0 else { throw KitError.journal("cannot open \(url.path): \(errno)") }
        let content = try Data(contentsOf: url)
        let end = content.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        if end < content.count {
            guard ftruncate(descriptor, off_t(end)) == 0 else { throw KitError.journal("cannot truncate: \(errno)") }
        }
        for text in content[..<end].split(separator: UInt8(ascii: "\n")) {
            guard let line = try JSONSerialization.jsonObject(with: Data(text)) as? [String: Any] else {
                throw KitError.journal("line \(lines + 1) is no object")
            }
            read(line)
        }
        if crashed, let row = loading { deaths.append(row) }
        loading = nil
    }

    /// Write a line, numbered and dated, to the disk and to the console. A sample under sustained load need not be synced:
    /// after a break that load begins anew, and waiting for the disk would let the phone cool.
    func append<L: Line>(_ line: L, synced: Bool = true) throws {
        var line = line
        lines += 1
        line.n = lines
        line.at = times.string(from: Date())
        var data = try encoder.encode(line)
        data.append(UInt8(ascii: "\n"))
        try data.withUnsafeBytes { bytes in
            var written = 0
            while written < bytes.count {
                let count = write(descriptor, bytes.baseAddress! + written, bytes.count - written)
                guard count > 0 else { throw KitError.journal("cannot write: \(errno)") }
                written += count
            }
        }
        guard !synced || fcntl(descriptor, F_FULLFSYNC) == 0 else { throw KitError.journal("cannot sync: \(errno)") }
        print(String(decoding: data, as: UTF8.self), terminator: "")
        fflush(stdout)
    }

    private func read(_ line: [String: Any]) {
        lines += 1
        let row = line["row"] as? Int
        switch line["kind"] as? String {
        case "session":
            if line["crashed"] as? Bool == true, let row = loading { deaths.append(row) }
            loading = nil
        case "loading": loading = row
        case "ready": loading = nil
        case "failed":
            loading = nil
            if let row { failed.insert(row) }
        case "heated": if let group = line["group"] as? Int { heated.insert(group) }
        case "sample": if let slot = line["slot"] as? Int { sampled.insert(slot) }
        default: break
        }
    }
}
