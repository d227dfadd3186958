import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.layout import SortField
from compactor.clustering import Clustering, Frame, SortKey, Strategy, parse_sort_keys
from compactor.errors import SettingsError

NAMES = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1)


def test_directions_and_nulls_are_read() -> None:
    assert parse_sort_keys('a asc nulls first, b DESC, c.d nulls last,"e f" desc nulls first') == (
        SortKey("a"),
        SortKey("b", is_descending=True, is_nulls_first=False),
        SortKey("c.d", is_nulls_first=False),
        SortKey("e f", is_descending=True),
    )


@pytest.mark.parametrize("text", ["a b", "a,,b", "a asc desc", "a nulls", ", a", "a desc, a"])
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="sort_by"):
        parse_sort_keys(text)


@given(st.lists(st.builds(SortKey, st.from_regex(r"[a-z_.]+", fullmatch=True)), unique=True))
def test_keys_are_read_as_they_are_shown(keys: list[SortKey]) -> None:
    assert parse_sort_keys(", ".join(map(str, keys))) == tuple(keys)


def test_orders_of_different_columns_have_different_names() -> None:
    frame = Frame(((b"a",),))
    orders = [
        Clustering(strategy, (SortField(number, (name,), desc),), frame if with_frame else None)
        for strategy in (Strategy.SORT, Strategy.ZORDER)
        for number in (0, 1)
        for name in ("a", "b", "a in frame b")
        for desc in (False, True)
        for with_frame in (False, True)
    ]
    assert len({order.order_id for order in orders}) == len(orders)
    assert len({order.family_id for order in orders}) == len(orders) / 2
