// What the app takes: phys_footprint, the figure that iOS ends apps by, and the largest it has been since it was launched.

import Foundation

/// The footprint at moments of a row's loading, bytes.
struct AppMemory: Encodable {
    let beforeBytes: Int64
    let loadBytes: Int64
    let firstBytes: Int64
    let steadyBytes: Int64
    let peakBeforeBytes: Int64
    let peakBytes: Int64

    /// Nil where one of the moments is not known: nothing is told rather than a part of it.
    init?(before: Footprint?, load: Footprint?, first: Footprint?, steady: Footprint?) {
        guard let before, let load, let first, let steady else { return nil }
        beforeBytes = before.bytes
        loadBytes = load.bytes
        firstBytes = first.bytes
        steadyBytes = steady.bytes
        peakBeforeBytes = before.peakBytes
        peakBytes = steady.peakBytes
    }
}

struct Footprint {
    let bytes: Int64
    let peakBytes: Int64

    /// The footprint now; nil where the kernel does not tell.
    static func now() -> Footprint? {
        var info = task_vm_info_data_t()
        let words = MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size
        var count = mach_msg_type_number_t(words)
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: words) { integers in
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), integers, &count)
            }
        }
        guard status == KERN_SUCCESS else { return nil }
        return Footprint(bytes: Int64(info.phys_footprint), peakBytes: info.ledger_phys_footprint_peak)
    }
}
