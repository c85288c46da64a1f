import pytest

from narrows.errors import PlanError
from narrows.plan.settings import Settings, codec_settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"transforms": ("pca1", "dct")},
            "transforms is 'pca1', 'dct': it must be pca1, pca2, klt",
        ),
        ({"transforms": ()}, "transforms is empty"),
        ({"coders": ("zip",)}, "coders is 'zip': it must be some of 'ans', 'huffman'"),
        ({"pictures": ("gif",)}, "pictures is 'gif': it must be some of 'avif', 'jpeg', 'webp'"),
        ({"scales": (1.0, 2.0)}, r"scales is 1.0, 2.0: it must be in \(0, 1\]"),
        ({"rates": 0}, "rates is 0: it must be at least 1"),
    ],
)
def test_what_cannot_be_planned_is_told_in_plain_words(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError, match=f"^plan setting {message}"):
        Settings(**changes)  # type: ignore[arg-type]


def test_an_unknown_codec_names_the_coders() -> None:
    with pytest.raises(PlanError, match=r"no codec 'pca-zip'.* CODER one of 'ans', 'huffman'$"):
        codec_settings("pca-zip")
