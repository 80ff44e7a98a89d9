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

    public static func read(_ folder: URL) throws -> PackageManifest {
        let content = try Data(contentsOf: folder.appendingPathComponent("manifest.json"))
        return try JSONDecoder().decode(PackageManifest.self, from: content)
    }

    public func function(_ name: String) -> FunctionSpec? {
        return functions.first(where: { $0.name == name })
    }
}
