"""Discovery goes through devicectl on PATH, as in the real one."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class AppSigningCredentials:
    development_team: str | None = ""
    provisioning_profile_uuid: str | None = None
    bundle_identifier: str | None = None


class DeviceType(Enum):
    IPHONE = "iphone"


class DeviceState(Enum):
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class _DeviceCtlError(Exception):
    def __init__(self, message, error_code=None):
        self.message, self.error_code = message, error_code
        super().__init__(message)

    def __str__(self):
        return f"[Error Code {self.error_code}] {self.message}"


class _DeviceCtlRemoteService:
    def __init__(self, socket, poll_time: float = 0.5, max_attempts=20) -> None:
        self.max_attempts = max_attempts


@dataclass(frozen=True)
class Device:
    name: str
    type: DeviceType
    identifier: str
    udid: str
    os_version: str
    os_build_number: str
    developer_mode_state: str
    state: DeviceState
    session: Any

    @staticmethod
    def get_devices():
        with tempfile.NamedTemporaryFile() as answer:
            subprocess.run(f"xcrun devicectl list devices -j {answer.name}", shell=True, check=True)
            with open(answer.name) as file:
                devices = json.load(file)["result"]["devices"]
        return [
            Device(
                name=device["deviceProperties"]["name"],
                type=DeviceType(device["hardwareProperties"]["deviceType"].lower()),
                identifier=device["identifier"],
                udid=device["hardwareProperties"]["udid"],
                os_version=device["deviceProperties"]["osVersionNumber"],
                os_build_number=device["deviceProperties"]["osBuildUpdate"],
                developer_mode_state=device["deviceProperties"]["developerModeStatus"],
                state=DeviceState(device["connectionProperties"]["tunnelState"]),
                session=None,
            )
            for device in devices
        ]

    @staticmethod
    def get_connected_devices(device_type):
        return [one for one in Device.get_devices() if one.state is DeviceState.CONNECTED and one.type == device_type]

    async def prepare_for_model_debugging(self, credentials=None, working_directory=None, clean=False):
        assert working_directory.is_dir()
        assert credentials.development_team
        import dataclasses

        return dataclasses.replace(self, session=object())
