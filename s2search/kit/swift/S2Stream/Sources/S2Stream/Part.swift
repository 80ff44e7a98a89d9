// One package of a chain, and what the host keeps for the layers in it.

#if canImport(CoreML)
import CoreML
import Foundation
import S2StreamCore

final class Part {
    let host: Host
    let functions: Functions

    private(set) var state: HostState
    private var past: Features
    private var held: MLState?

    init(_ functions: Functions, _ form: HostForm) throws {
        self.functions = functions
        host = Host(form)
        state = host.start()
        past = [:]
        try restart()
    }

    /// Forget the stream.
    func restart() throws {
        state = host.start()
        held = nil
        if form.keeper == .coreML {
            state.kept.removeValue(forKey: "past")
            for name in ["advance", "commit"] where held == nil && functions.has(name) {
                held = try functions.makeState(name)
            }
        }
        past = try features(host.past(state))
    }

    /// Call a function with what it takes of the given features and of the past.
    func call(_ name: String, _ given: Features) throws -> Features {
        let all = name == "first" ? given : given.merging(past) { handed, _ in handed }
        return try functions.call(name, all, state: held)
    }

    /// Take up a chunk: `outputs` are those of "advance" or "commit".
    func take(_ outputs: Features) throws {
        var new: [String: HalfTensor] = [:]
        for (name, feature) in outputs where name.hasPrefix("new_") {
            if let array = feature.multiArrayValue {
                new[name] = try Arrays.half(array)
            }
        }
        state = host.after(state, new)
        past = try features(host.past(state))  // once per chunk: every pass of the next one reads the same
    }

    private var form: HostForm {
        return host.form
    }
}

func features(_ tensors: [String: HalfTensor]) throws -> Features {
    return try tensors.mapValues { try Arrays.feature($0) }
}
#endif
