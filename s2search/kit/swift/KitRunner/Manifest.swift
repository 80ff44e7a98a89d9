// The part of manifest.json that the loop follows. It decides nothing itself.

import Foundation

struct Manifest: Decodable {
    let kitProtocol: KitProtocol
    let packages: [Package]
    let rows: [Row]
    let sentinel: Int
    let groups: [[Int]]
    let order: [Slot]

    enum CodingKeys: String, CodingKey {
        case kitProtocol = "protocol"
        case packages, rows, sentinel, groups, order
    }

    static func read(_ url: URL) throws -> Manifest {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Manifest.self, from: Data(contentsOf: url))
    }

    func package(of row: Row) throws -> Package {
        guard let found = packages.first(where: { $0.digest == row.package }) else {
            throw KitError.missing(row.package)
        }
        return found
    }
}

struct KitProtocol: Decodable {
    let leastSampleMs: Double
    let warmUpCalls: Int
    let settledSpread: Double
    let coolDownS: Double
    let sustainedS: Double?
}

struct Package: Decodable {
    let digest: String
    let path: String
    /// Which of a package's functions; nil where it has one.
    let function: String?
    let inputs: [Input]

    /// The compiled package's name in the app's folder.
    var compiledName: String {
        let name = URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
        return "\(name).mlmodelc"
    }
}

struct Input: Decodable {
    let name: String
    let shape: [Int]
    let dtype: String
    let low: Double
    let high: Double
}

struct Row: Decodable {
    let id: Int
    let package: String
    let computeUnit: String
    /// Whether a sample is one prediction, however short.
    let singleCalls: Bool
}

struct Slot: Decodable {
    let slot: Int
    let group: Int
    let round: Int
    let row: Int
    let sentinel: Bool
}
