from s2search.reporting.progress import progress_bar


def test_without_a_terminal_there_is_a_line_a_minute(capsys):
    now = [0.0]
    with progress_bar("streaming", clock=lambda: now[0]) as progress:
        for chunk in range(13):
            progress(chunk, 100, "38.1 FPS" if chunk < 12 else "")
            now[0] += 15
    assert capsys.readouterr().err.splitlines() == [
        "streaming: 4 of 100, 38.1 FPS",
        "streaming: 8 of 100, 38.1 FPS",
        "streaming: 12 of 100",
    ]
