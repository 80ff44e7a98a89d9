// The part of a package's manifest.json that streaming needs: of a model's package, or of a decoder's.

import Foundation

public struct TensorSpec: Decodable {
    public let name: String
    public let shape: [Int]
    public let dtype: String
}

public struct FunctionSpec: Decodable {
    public let name: String
    public let file: String
    public let inputs: [TensorSpec]
    public let outputs: [TensorSpec]
}

/// One of several packages that a model is in, with the functions as its own file has them.
public struct ChainLink: Decodable {
    /// Outputs that later links take by their names.
    public let handsOn: [String]
    public let functions: [FunctionSpec]
    /// What a host must know of the layers in it.
    public let host: HostForm

    enum CodingKeys: String, CodingKey {
        case functions, host
        case handsOn = "hands_on"
    }
}

public struct ModelConfig: Decodable {
    public let causal: CausalForm?
}

public struct PackageManifest: Decodable {
    public let functions: [FunctionSpec]
    /// Inputs that Core ML keeps by itself.
    public let held: [String]
    /// Nil in a decoder's, and where functions take and return the whole state (state=plain).
    public let host: HostForm?
    /// Nil in a decoder's.
    public let model: ModelConfig?
    /// Nil where one package holds all layers: `functions` and `host` are what the links do together.
    public let chain: [ChainLink]?

    public static func read(_ folder: URL) throws -> PackageManifest {
        let content = try Data(contentsOf: folder.appendingPathComponent("manifest.json"))
        return try JSONDecoder().decode(PackageManifest.self, from: content)
    }

    /// The packages of a model, in the order in which data flow; none where the host does not keep the state.
    public var links: [ChainLink] {
        if let chain = chain {
            return chain
        }
        guard let host = host else {
            return []
        }
        return [ChainLink(handsOn: [], functions: functions, host: host)]
    }

    public func function(_ name: String) -> FunctionSpec? {
        return functions.first(where: { $0.name == name })
    }
}
