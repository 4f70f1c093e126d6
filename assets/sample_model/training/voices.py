"""Speech from espeak-ng: many voices, speeds, pitches and languages, with music and silence between.

The words mean nothing together; what counts is how they sound. Held-out speech has other voices, words and languages.
"""

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

RATE = 16_000  # samples per second
ESPEAK_RATE = 22_050

WORDS = {
    "en-us": "the river small morning open window walk garden after people yellow table music number always mother "
    "under bridge winter apple carry simple voice paper water never story animal heavy kitchen answer summer follow",
    "en-gb": "a cloud over harbour gentle brother evening market seven letters around village quickly father cover "
    "doctor early purple mountain listen another corner ready silver travel beautiful question happy",
    "de": "der Garten morgen über kleine Brücke wir haben gestern sieben Blumen Wasser schöne Straße langsam Mutter "
    "Fenster immer Abend Freunde spielen zusammen warum Arbeit grüne Bäume",
    "es": "la mañana pequeña ventana camino siempre hermano agua verde montaña ayer nosotros cantamos despacio ciudad "
    "libro abierto noche amigos comida blanca pregunta",
    "fr": "le jardin petite maison toujours ouvrir fenêtre demain nous avons chanté rivière bleue lentement famille "
    "soleil matin pourquoi travail montagne ensemble",
    "it": "la strada piccola sempre mattina acqua montagna bella insieme parlare fratello finestra aperta domani "
    "cantare lavoro amico perché giardino",
}
OTHER_WORDS = {
    "en-us+f4": "every sailor knows that calm weather brings better fishing while our neighbour repairs an old wooden "
    "boat",
    "en-gb-scotland+m6": "bright lanterns hang between two towers and nobody remembers who painted them before last "
    "autumn",
    "nl": "vandaag lopen wij samen door een oude stad met hoge huizen en veel fietsen langs het water",
    "de+f5": "hinter dem Hügel wohnt ein alter Müller der jeden Sonntag frisches Brot an Kinder verteilt",
    "pt": "depois do almoço caminhamos devagar pela praia enquanto as crianças procuram conchas brancas",
    "sv": "under natten faller snön tyst över sjön och ingen hör när båten lämnar stranden",
}
VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m7", "+f1", "+f2", "+f3")


@dataclass(frozen=True)
class Sound:
    """What is heard, and the speech in it alone: float32 (n,) at RATE."""

    heard: np.ndarray
    speech: np.ndarray


def speak(text: str, voice: str, words_per_minute: int = 170, pitch: int = 50) -> np.ndarray:
    """`text` in espeak-ng's `voice`, float32 (n,) at RATE, peak 1. Raises RuntimeError where there is no espeak-ng."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise RuntimeError("espeak-ng is missing: install it, for example with `apt-get install espeak-ng`.")
    options = ["-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "--stdout", text]
    said = subprocess.run([program, *options], check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(said)) as file:
        samples = np.frombuffer(file.readframes(10**9), np.int16).astype(np.float32)
    samples = resample_poly(samples, 320, 441).astype(np.float32)  # 22,050 to 16,000 a second
    return samples / (np.abs(samples).max() + 1e-6)


def make_sound(rng: np.random.Generator, seconds: float) -> Sound:
    """Somebody talks, with pauses, and now and then music or noise; drawn by lot."""
    language = str(rng.choice(list(WORDS)))
    voice = language + str(rng.choice(VARIANTS))
    return _fill(rng, seconds, voice, WORDS[language].split(), calm=False)


def make_other_sound(rng: np.random.Generator, seconds: float, number: int) -> Sound:
    """Speech that training never hears; `number` picks voice and words."""
    voice, words = list(OTHER_WORDS.items())[number % len(OTHER_WORDS)]
    return _fill(rng, seconds, voice, words.split(), calm=True)


def _fill(rng: np.random.Generator, seconds: float, voice: str, words: list[str], calm: bool) -> Sound:
    speech = np.zeros(int(seconds * RATE), np.float32)
    speed, pitch = int(rng.integers(120, 230)), int(rng.integers(15, 90))
    start = int(rng.uniform(0, 0.3) * RATE)
    while start < len(speech):
        text = " ".join(rng.choice(words, rng.integers(2, 9)))
        said = speak(text, voice, speed, pitch)[: len(speech) - start] * rng.uniform(0.6, 1.0)
        speech[start : start + len(said)] = said
        start += len(said) + int(rng.choice([0.1, 0.3, 0.7, 1.5], p=[0.4, 0.3, 0.2, 0.1]) * RATE)
    heard = speech.copy()
    if not calm:
        if rng.random() < 0.25:
            heard += make_music(rng, seconds) * rng.uniform(0.02, 0.3)
        heard += rng.standard_normal(len(heard), np.float32) * 10 ** rng.uniform(-4, -1.7)
    return Sound(heard * rng.uniform(0.1, 0.9), speech)


def make_music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Chords of plucked tones, float32 (n,), peak 1: to be told from speech. Some of it is silent."""
    ticks = np.arange(int(seconds * RATE)) / RATE
    music, beat = np.zeros_like(ticks), rng.uniform(0.2, 0.5)
    base = 110 * 2 ** rng.uniform(0, 1.5)
    for start in np.arange(0, seconds * rng.uniform(0.4, 1), beat):
        since = np.clip(ticks - start, 0, None)
        for step in rng.choice([0, 3, 5, 7, 10, 12], 2):
            tone = 2 ** (step / 12) * base
            music += np.sin(2 * np.pi * tone * since) * np.exp(-since / 0.25) * (ticks > start)
    return (music / (np.abs(music).max() + 1e-6)).astype(np.float32)
