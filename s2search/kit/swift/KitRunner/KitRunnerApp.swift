// The app of the steady loop. It measures as soon as it is launched, shows how far it is, and ends itself.

import SwiftUI
import UIKit

@main
struct KitRunnerApp: App {
    @State private var status = "starting"

    var body: some Scene {
        WindowGroup {
            Text(status)
                .padding()
                .onAppear(perform: begin)
        }
    }

    private func begin() {
        UIApplication.shared.isIdleTimerDisabled = true
        UIDevice.current.isBatteryMonitoringEnabled = true
        let battery = Battery(
            level: Double(UIDevice.current.batteryLevel),
            charging: UIDevice.current.batteryState == .charging || UIDevice.current.batteryState == .full
        )
        let os = "\(UIDevice.current.systemName) \(UIDevice.current.systemVersion)"
        let thread = Thread {
            do {
                let arguments = try Arguments(CommandLine.arguments)
                let loop = try MeasuringLoop(arguments: arguments) { text in
                    DispatchQueue.main.async { status = text }
                }
                try loop.run(battery: battery, os: os)
                exit(0)
            } catch {
                print("kit runner failed: \(error)")
                exit(1)
            }
        }
        thread.qualityOfService = .userInteractive
        thread.stackSize = 8 << 20
        thread.start()
    }
}

struct Battery {
    let level: Double
    let charging: Bool
}

/// What the runner on the Mac says: which kit, whether the last launch died, and which rows to leave out.
struct Arguments {
    let kit: String
    let crashed: Bool
    let skip: Set<Int>

    init(_ words: [String]) throws {
        func value(of name: String) throws -> String {
            guard let place = words.firstIndex(of: name), place + 1 < words.count else {
                throw KitError.argument(name)
            }
            return words[place + 1]
        }
        kit = try value(of: "--kit")
        crashed = try value(of: "--crashed") == "1"
        skip = Set(try value(of: "--skip").split(separator: ",").compactMap { Int($0) })
    }
}

enum KitError: Error {
    case argument(String)
    case missing(String)
    case input(String)
    case journal(String)
}
