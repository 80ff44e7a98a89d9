// The functions of one package, loaded by name. They share their weights in the file.

#if canImport(CoreML)
import CoreML
import Foundation
import S2StreamCore

public enum StreamError: Error {
    /// The package lacks what a stream needs.
    case missing(String)
    /// Core ML gave something else than the manifest says.
    case unexpected(String)
}

typealias Features = [String: MLFeatureValue]

final class Functions {
    private var models: [String: MLModel] = [:]

    /// - Parameters:
    ///   - folder: With the manifest.json. A model that was compiled beforehand lies beside the .mlpackage, as
    ///     .mlmodelc; others are compiled here, which can take minutes.
    ///   - specs: What the manifest says of the functions: where each is.
    ///   - names: Functions to load; those that the package does not have are left out.
    init(_ folder: URL, _ specs: [FunctionSpec], names: [String], computeUnits: MLComputeUnits) async throws {
        var compiled: [String: URL] = [:]
        for name in names {
            guard let spec = specs.first(where: { $0.name == name }) else { continue }
            if compiled[spec.file] == nil {
                compiled[spec.file] = try await Functions.compiled(folder.appendingPathComponent(spec.file))
            }
            let configuration = MLModelConfiguration()
            configuration.computeUnits = computeUnits
            configuration.functionName = name
            models[name] = try await MLModel.load(contentsOf: compiled[spec.file]!, configuration: configuration)
        }
    }

    func has(_ name: String) -> Bool {
        return models[name] != nil
    }

    /// Return a state of Core ML's own, zeros, if the function has one.
    func makeState(_ name: String) throws -> MLState? {
        let model = try self.model(name)
        return model.modelDescription.stateDescriptionsByName.isEmpty ? nil : model.makeState()
    }

    /// Call a function with those of the features that it takes.
    func call(_ name: String, _ features: Features, state: MLState?) throws -> Features {
        let model = try self.model(name)
        var taken: Features = [:]
        for input in model.modelDescription.inputDescriptionsByName.keys {
            guard let feature = features[input] else {
                throw StreamError.missing("\(name) takes \(input), which nobody gives")
            }
            taken[input] = feature
        }
        let provider = try MLDictionaryFeatureProvider(dictionary: taken)
        let stateful = !model.modelDescription.stateDescriptionsByName.isEmpty
        let outputs: MLFeatureProvider
        if stateful, let state = state {
            outputs = try model.prediction(from: provider, using: state)
        } else {
            outputs = try model.prediction(from: provider)
        }
        var found: Features = [:]
        for output in outputs.featureNames {
            found[output] = outputs.featureValue(for: output)
        }
        return found
    }

    private func model(_ name: String) throws -> MLModel {
        guard let model = models[name] else {
            throw StreamError.missing("the package has no function \(name)")
        }
        return model
    }

    private static func compiled(_ package: URL) async throws -> URL {
        let ready = package.deletingPathExtension().appendingPathExtension("mlmodelc")
        if FileManager.default.fileExists(atPath: ready.path) {
            return ready
        }
        return try await MLModel.compileModel(at: package)
    }
}
#endif
