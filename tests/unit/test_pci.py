"""PCI addresses: what is read as one, what is not, and how they print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.pci import Bdf

ADDRESSES = st.builds(
    Bdf,
    domain=st.integers(0, 0xFFFFFFFF),
    bus=st.integers(0, 0xFF),
    device=st.integers(0, 0x1F),
    function=st.integers(0, 7),
)


@given(ADDRESSES)
def test_an_address_survives_printing_and_reading(address: Bdf) -> None:
    assert Bdf.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("01:00.0", "0000:01:00.0"),
        ("0000:00:1f.7", "0000:00:1f.7"),
        (" 0000:FF:0A.3\n", "0000:ff:0a.3"),
        ("10000:e1:00.0", "10000:e1:00.0"),  # a VMD domain
    ],
)
def test_a_domain_may_be_left_out_and_case_does_not_count(text: str, printed: str) -> None:
    assert str(Bdf.parse(text)) == printed


@pytest.mark.parametrize(
    "text", ["", "rp1", "01:00", "01:00.8", "01:20.0", "1:00.0", "000:01:00.0", "0000:01:00.0 x", "0000:01:00.00"]
)
def test_what_is_no_address_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a PCI address") as caught:
        Bdf.parse(text)
    assert repr(text) in str(caught.value)


def test_addresses_sort_as_the_bus_does() -> None:
    texts = ["0000:00:02.0", "0000:00:02.1", "0000:00:10.0", "0000:01:00.0", "0001:00:00.0"]
    assert sorted(map(Bdf.parse, reversed(texts))) == [Bdf.parse(text) for text in texts]


def test_sysfs_folder_is_named_by_the_full_address() -> None:
    assert Bdf.parse("01:00.0").sysfs == "/sys/bus/pci/devices/0000:01:00.0"
