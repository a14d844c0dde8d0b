"""What somebody is used to take of lists is told of the next: a list counts once, by places or by its numbers alone."""

from __future__ import annotations

from models.shown.habits import Habit, Habits


def test_a_habit_counts_how_lists_are_begun_and_gone_through_and_what_the_numbers_of_the_taken_are() -> None:
    habits = Habits()
    nobody = habits.of("ann")
    for number, (items, taken) in enumerate([("abcd", 1), ("abcd", 1), ("abcd", 3), ("efgh", 0), ("i", 0)]):
        for _ in range(2):  # the same list again, which counts once
            places = list(range(1, 1 + len(items)))
            habits.take("ann", number, list(items), places, taken, [1.5, 0.0])
    ann = habits.of("ann")
    assert (ann.lists, ann.again, ann.same, ann.below, ann.anew, ann.first) == (4, 2, 1, 1, 2, 1)
    assert (ann.item_id, ann.run) == ("e", 1)
    assert ann.stays > nobody.stays
    assert ann.size(0) == (6 / 5, 4 / 6)
    assert ann.size(1)[0] == nobody.size(0)[0] == nobody.size(0)[1] == 0.0
    again = Habits()
    again.load(habits.values())
    assert again.of("ann") == ann
    assert nobody == Habit(), "what is nobody's stays as it is"


def test_where_no_place_is_known_only_the_numbers_count() -> None:
    habits = Habits()
    habits.take("bob", 0, ["a", "b"], [0, 0], 1, [2.0])
    habits.take("bob", 1, ["a", "b"], [0, 0], 1, [2.0])
    bob = habits.of("bob")
    assert (bob.lists, bob.again, bob.anew, bob.run, bob.sizes) == (2, 0, 0, 2, {0: 4.0})
