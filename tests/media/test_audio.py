"""Sound in: every format, to the sample, and nothing that is not sound."""

import os
import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from pipeline.errors import InvalidRequest
from pipeline.media import ffmpeg as ffmpeg_module
from pipeline.media.audio import measure_audio, read_speech

from .samples import ffmpeg, noise, write_movie, write_sound

LIMIT_S = 300
FORMATS = {
    "wav": (),
    "flac": (),
    "mp3": (),
    "ogg": ("-c:a", "libvorbis"),
    "m4a": ("-c:a", "aac"),
    "aac": ("-c:a", "aac"),
    "mp4": ("-c:a", "alac"),
    "webm": ("-c:a", "libopus"),
}
LOSSLESS = ("wav", "flac", "mp4")


def refusal(path: Path, start_s: float = 0.0, duration_s: float | None = None) -> str:
    """The sentence with which the file is refused."""
    with pytest.raises(InvalidRequest) as refused:
        measure_audio(path, start_s, duration_s, LIMIT_S)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert str(path.parent) not in sentence or str(path.parent) == "."
    return sentence


def onset_s(samples: np.ndarray, rate: int = 16_000) -> float:
    """When it becomes loud."""
    return float(np.argmax(np.abs(samples) > 0.1)) / rate


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_a_16_bit_wav_is_heard_as_librosa_loads_it_to_the_bit(tmp_path: Path, rate: int, channels: int) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(1.3, rate, channels), rate)
    expected, _ = librosa.load(path, sr=16_000)
    heard = read_speech(path)
    assert heard.dtype == np.float32
    assert np.array_equal(heard, expected)


@pytest.mark.parametrize("encoding", ["PCM_24", "PCM_U8", "FLOAT"])
def test_other_wav_encodings_are_heard_as_librosa_loads_them_to_the_bit(tmp_path: Path, encoding: str) -> None:
    soundfile.write(tmp_path / "voice.wav", noise(0.7, 44_100, 2), 44_100, subtype=encoding)
    expected, _ = librosa.load(tmp_path / "voice.wav", sr=16_000)
    assert np.array_equal(read_speech(tmp_path / "voice.wav"), expected)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_heard_at_the_right_time(tmp_path: Path, suffix: str) -> None:
    samples = noise(2.0, 44_100, 2, level=0.3)
    samples[:44_100] = 0
    path = write_sound(tmp_path / f"voice.{suffix}", samples, 44_100, *FORMATS[suffix])
    late = 0.06 if suffix == "aac" else 0.0  # bare AAC does not tell of the encoder's delay
    assert measure_audio(path).seconds == pytest.approx(2.0, abs=0 if suffix in LOSSLESS else 0.08)
    assert onset_s(read_speech(path)) == pytest.approx(1.0 + late / 2, abs=0.01 + late / 2)


@pytest.mark.parametrize("suffix", [name for name in FORMATS if name != "webm"])
def test_the_chosen_part_is_exact_to_the_sample(tmp_path: Path, suffix: str) -> None:
    path = write_sound(tmp_path / f"voice.{suffix}", noise(2.0, 16_000), 16_000, *FORMATS[suffix])
    whole = read_speech(path)
    part = read_speech(path, 0.3333, 0.8)
    assert np.array_equal(part, whole[5333 : 5333 + 12_800])
    assert measure_audio(path, 0.3333, 0.8).seconds == 0.8


def test_the_chosen_part_of_a_browsers_recording_is_exact_too(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "microphone.webm", noise(2.0, 48_000), 48_000, "-c:a", "libopus")
    whole, part = read_speech(path), read_speech(path, 0.5, 1.0)
    assert len(part) == 16_000
    assert np.abs(part - whole[8_000:24_000])[200:-200].max() < 1e-4  # the resampler sees other ends


def test_a_part_that_runs_past_the_end_is_what_is_there(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(2.0, 16_000), 16_000)
    assert measure_audio(path, 1.5, 60.0, LIMIT_S).seconds == 0.5
    assert len(read_speech(path, 1.5, 60.0)) == 8_000


def test_the_level_is_that_of_the_mono_mix_and_the_peak_that_of_any_channel(tmp_path: Path) -> None:
    left = noise(1.0, 16_000, level=0.2)
    facts = measure_audio(write_sound(tmp_path / "voice.wav", np.hstack([left, -left]), 16_000))
    assert facts.rms == 0
    assert facts.peak == np.abs(left).max()
    assert (facts.sample_rate, facts.channels, facts.clipped) == (16_000, 2, 0)


def test_more_channels_than_two_are_mixed_down(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(0.5, 44_100, 6), 44_100)
    assert measure_audio(path).channels == 2
    assert len(read_speech(path)) == 8_000


def test_a_cover_picture_is_not_in_the_way(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "bare.mp3", noise(1.0, 44_100), 44_100)
    cover = tmp_path / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", 1, cover)
    ffmpeg("-i", sound, "-i", cover, "-map", 0, "-map", 1, "-c", "copy", tmp_path / "song.mp3")
    assert np.array_equal(read_speech(tmp_path / "song.mp3"), read_speech(sound))


def test_the_sound_of_a_film_is_accepted(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-f", "lavfi", "-i", "sine=d=1", film)
    assert measure_audio(film).seconds == pytest.approx(1.0, abs=0.05)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "voice.wav").touch()
    assert "'voice.wav' is empty" in refusal(tmp_path / "voice.wav")


def test_a_text_called_wav_is_refused(tmp_path: Path) -> None:
    (tmp_path / "voice.wav").write_text("hello, I am not sound\n" * 100)
    assert "cannot be read as audio; give WAV, MP3" in refusal(tmp_path / "voice.wav")


def test_random_bytes_called_mp3_are_refused(tmp_path: Path) -> None:
    (tmp_path / "voice.mp3").write_bytes(np.random.default_rng(3).bytes(200_000))
    assert "'voice.mp3'" in refusal(tmp_path / "voice.mp3")


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    assert "no audio track" in refusal(write_movie(tmp_path / "mute.mp4", 16, 16))


def test_a_sound_without_samples_is_refused(tmp_path: Path) -> None:
    assert "holds no audio" in refusal(write_sound(tmp_path / "voice.wav", np.zeros((0, 1)), 16_000))


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.mkv", noise(1.0, 48_000), 48_000, "-c:a", "ac3")
    assert "cannot be read as audio" in refusal(path)


def test_a_sample_rate_that_no_recording_has_is_refused(tmp_path: Path) -> None:
    assert "has 5 samples a second" in refusal(write_sound(tmp_path / "voice.wav", np.zeros((400, 1)), 5))


def test_too_short_a_sound_is_refused_and_the_shortest_accepted(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(0.2, 44_100), 44_100)
    assert measure_audio(path).seconds == 0.2
    path = write_sound(tmp_path / "short.wav", noise(0.05, 44_100), 44_100)
    assert "gives 0.05 s of audio; at least 0.2 s are needed" in refusal(path)


def test_a_start_past_the_end_is_refused(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(1.0, 16_000), 16_000)
    for start_s in (1.0, 60.0):
        assert f"{start_s:g} s lies past the end of 'voice.wav', which is 1.00 s long" in refusal(path, start_s)
    with pytest.raises(InvalidRequest, match="past the end"):
        read_speech(path, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e15, -1e7])
def test_values_that_are_no_sound_are_refused(value: float, tmp_path: Path) -> None:
    samples = np.zeros(16_000, np.float32)
    samples[8000] = value
    soundfile.write(tmp_path / "voice.wav", samples, 16_000, subtype="FLOAT")
    assert "not numbers" in refusal(tmp_path / "voice.wav")


def test_ten_hours_are_refused_by_the_header_alone(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(1.0, 16_000), 16_000)
    size = 36_000 * 32_000
    head = bytearray(path.read_bytes()[:44])
    head[4:8], head[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
    path.write_bytes(head)
    os.truncate(path, 44 + size)  # the rest is a hole
    sentence = refusal(path)
    assert "gives 36000.0 s of audio" in sentence
    assert "at most 300 s are accepted" in sentence
    assert measure_audio(path, 1_000, 5, LIMIT_S).seconds == 5  # a part of it may be chosen


def test_a_long_sound_of_untold_length_is_refused_without_being_held(tmp_path: Path) -> None:
    length = ("-f", "lavfi", "-i", "anoisesrc=r=48000:d=400:a=0.01", "-ac", 2)
    path = tmp_path / "voice.flac"
    path.write_bytes(ffmpeg(*length, "-f", "flac", "pipe:1"))  # written to a pipe, the header cannot tell the length
    tracemalloc.start()
    try:
        sentence = refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "gives more than 300 s of audio" in sentence
    assert peak < 20e6  # 300 s are 115 MB


def test_a_file_that_was_changed_is_looked_at_anew(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.wav", noise(1.0, 16_000), 16_000)
    assert measure_audio(path).sample_rate == 16_000
    write_sound(path, noise(1.0, 44_100), 44_100)
    assert measure_audio(path).sample_rate == 44_100


def test_an_estimated_length_refuses_nobody(tmp_path: Path) -> None:
    loud_then_quiet = np.concatenate([np.zeros((44_100 * 3, 1)), noise(3.0, 44_100, level=0.3)])
    path = write_sound(tmp_path / "voice.mp3", loud_then_quiet, 44_100, "-q:a", 0, "-write_xing", 0)
    assert measure_audio(path, max_seconds=6.2).seconds == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.m4a\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.m4a\n",
        "<?xml version='1.0'?><MPD type='static'><BaseURL>secret.m4a</BaseURL></MPD>",
    ],
)
def test_a_playlist_does_not_reach_another_file(tmp_path: Path, playlist: str) -> None:
    write_sound(tmp_path / "secret.m4a", noise(1.0, 16_000), 16_000)
    (tmp_path / "voice.m4a").write_text(playlist)
    assert "cannot be read as audio" in refusal(tmp_path / "voice.m4a")


@pytest.mark.parametrize("name", ["-version", "-i.wav", "concat:a|b.wav", "data:x", "%03d.wav", 'it\'s "quoted" ü.wav'])
def test_a_name_is_only_ever_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path / "plain.wav", noise(1.0, 16_000), 16_000).rename(tmp_path / name)
    assert measure_audio(Path(name)).seconds == 1.0


def test_a_header_that_takes_too_long_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sound(tmp_path / "voice.wav", noise(1.0, 16_000), 16_000)
    monkeypatch.setattr(ffmpeg_module, "READING_LIMIT_S", 1e-6)
    assert "reading 'voice.wav' takes more than" in refusal(tmp_path / "voice.wav")


def test_a_folder_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "there is no file 'gone.wav'" in refusal(tmp_path / "gone.wav")
    assert "there is no file 'a?b.wav'" in refusal(tmp_path / "a\0b.wav")
    assert "'pipe.wav' is not a file" in refusal(tmp_path / "pipe.wav")
    assert f"'{tmp_path.name}' is not a file" in refusal(tmp_path)
