// swift-tools-version:5.9
// Streams video from packages of s2search: the host's arithmetic on Foundation alone, and a thin layer on Core ML.

import PackageDescription

let package = Package(
    name: "S2Stream",
    platforms: [.iOS("18.0"), .macOS("15.0")],
    products: [
        .library(name: "S2StreamCore", targets: ["S2StreamCore"]),
        .library(name: "S2Stream", targets: ["S2Stream"]),
    ],
    targets: [
        .target(name: "S2StreamCore"),
        .target(name: "S2Stream", dependencies: ["S2StreamCore"]),
        .testTarget(
            name: "S2StreamCoreTests",
            dependencies: ["S2StreamCore"],
            resources: [.copy("Vectors")]
        ),
    ]
)
