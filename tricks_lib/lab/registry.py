"""The data sets that have a name: where each one is, what its columns mean, and the digests of its rows."""

from dataclasses import dataclass, field

SPLITS = ("train", "validation", "test")
TOPICS = ("staff", "room", "food", "facilities", "location", "booking", "noise", "accessibility")
ASPECTS = ("cleanliness", "comfort", "food", "service", "quiet", "value", "location", "maintenance")


@dataclass(frozen=True)
class Task:
    """Where a data set is and what its columns mean.

    ``kind``: ``classification`` (label: a string or index), ``multilabel`` (label: list of names),
    ``regression`` (label: a number), ``tokens`` (words in ``tokens``, label: as many tags), ``text`` (no
    label); ``sha256``: :func:`content_sha256` of each of ``splits``;
    ``hub``: address and, after a colon, configuration; ``columns``: names there of text, (text_b,) label;
    ``names``: names there of classes that have another here;
    ``splits``: those published with labels; one whose labels the hub hides (all are -1) is left out. Without
    a test split the published validation split is the test split; where validation is missing then, it is a
    fixed tenth of train.
    """

    kind: str
    sha256: tuple[str, ...] = ()
    label: str = "label"
    folder: str = ""
    hub: str = ""
    columns: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    splits: tuple[str, ...] = SPLITS


NOTES_SHA256 = (
    "1a860327dcc93143a7750dea477ee0e4560530b67fa5d92f1bdc0754409c2dd6",
    "2ece2f2badb27abb45c2b919537952faac021501785fb56f58d09ccca76e4471",
    "9df9bdb4f7c6c0d8df1183d08e05f54175c00294ca815447a7900f649256ebaf",
)
PAIR = {"text": "sentence1", "text_b": "sentence2"}  # GLUE's names
TASKS = {
    **{
        f"guest_notes/{label}": Task(kind, NOTES_SHA256, label, "guest_notes")
        for label, kind in {
            "topic": "classification", "aspects": "multilabel",
            "rating": "regression", "safety_issue": "classification",
        }.items()
    },
    "en_trec": Task("classification", (
        "b1688117794c2e90eb3d89d4f45c0a4774c3efa192682b0532710fcd94e3a607",
        "acd0acad5780db6f0f9301d1b6ae010eb3d0e25c8b831560302247c5ce15f1e3",
        "06c2e41ffaf6c2252ccd82d6b46e0eddda39da7480d5182bd1182a7f824ce4a0")),
    "en_banking77": Task("classification", (
        "43e854b49ab114cf91321890c61e16358bc4f2388972dc42b8cdf7defe226ce3",
        "24259b6b6606793880497a1f016a20af34d431d75a30d4a33f26d5466462e195",
        "5a7f67923acefd1f02aced1bc877e531c2ee6c12701ffc8394d2567e51acc090")),
    "en_stsb": Task("regression", (
        "9afbd8ec5ea34495c72d0d8adefa10582cb05278ee4532edd6283814aefaa484",
        "f48307336e85d06e9131285e05368a7bc31208f9eca48c20b3dad0aa0ff99c9d",
        "4f2812c984d43a4a956cdabd6caf2402caf5d5480bab2681a9e8fa1ddfbff389"),
        hub="nyu-mll/glue:stsb", columns=PAIR),
    "en_rte": Task("classification", (
        "a9f8e4c95b8f2f7e91308e474955d8adf77ac2c91060ee8bae87cddbd3eb159c",
        "7fa1e1e75577eafe5616ced1c158cf30080a72c1023a31d1451283143faf91a2"),
        hub="nyu-mll/glue:rte", columns=PAIR, splits=("train", "validation")),
    "en_mrpc": Task("classification", (
        "fac8bdf2b1b911e2ba2f2b35464e8b815823838ebfa7bfb62b15ccfd2ea5d6c9",
        "bdb8ba04bb3d7f16e358b5a2285e7029bee131efb251a864c46eead77fc0c106",
        "a3c368e116c83fe01054ce08c7df4fb3ca2e12df10b9bbd9bba48e220829ca3e"),
        hub="nyu-mll/glue:mrpc", columns=PAIR,
        names={"equivalent": "paraphrase", "not_equivalent": "not_paraphrase"}),
    "en_cola": Task("classification", (
        "c606615e66e31c5450b53118b1c3f9fce8258d1b97eff7965d380fdf08a7cf0d",
        "51371682333f0d99c240c5b6fdefcc86b33cb08f80a787ce20694f3c54b3db5b"),
        hub="nyu-mll/glue:cola", columns={"text": "sentence"}, splits=("train", "validation")),
    "en_sst2": Task("classification", (
        "3dde73c2b9371d40e835208f7c4fa294a2ae1e983e542e128026bbee87b5ca9f",
        "fbc91400973f8b7b9fd3010257de8d44666cda8140be06425247d50ac59eff87"),
        hub="nyu-mll/glue:sst2", columns={"text": "sentence"}, splits=("train", "validation")),
    "en_wnut17": Task("tokens", (
        "99c0179f2dab5b0993136a8874ef804108479955e53cfd6506e4a8be0210c47f",
        "691b5e4dde1a84736e040ea15c5abe8e4ce3e3cc1b6d281e43dcd5e68a922ed3",
        "730102d467afd1985a5e8e4d0f8fde39834935a88887fa39546f3743cd3a24e0"), label="tags"),
    "en_hyperpartisan": Task("classification", (
        "459ba5d8e16fec4d837c189960f1d8b2cf3fb666058eb3c5317d06fca55f131a",
        "c6a592eb2d6a9b76ec858f5daf2938aa0a0f8b77237c8d50afb628d2fb4f00de",
        "bbaf7332c5628f2b7b0982490a960bb838eab1951f8321bd6cf12d2de1b067de")),
    "en_hate_davidson": Task("classification", (
        "b0d0478914e7492211870024b041549416df2d57838e22b08ec47563db85a069",
        "961e73345ad12f6e80028c1d6201e58a965a72cf7984b546553eb2fce0976f4a",
        "b8a313061513e22697ba4a513f35cc0579da8e03761860171bef8fda7b176a2f")),
    "en_clear_readability": Task("regression", (
        "bff483f1b88ff8efd433dda00d6cee11d59b4649d6f9d9cc2ed8640059c48d2f",
        "c79478355258d5eb535c4dd1f1f6842cd5efdd0d48ea1c264bfa1d3903356115",
        "5cdbacf831b6e50171caac23243734f514817ab5754073872871bd4fc9fce033")),
    "en_moviereview2k": Task("classification", (
        "d4be57eb2a47babfd3468c12b38ab81e0e166f7c2152bd4ba2015b27a9609c6d",
        "8ea39500047e0fce04b683e569534e14529b2ab57af4222a19ab9f046840879c",
        "4a41bea990b4f7172b08f49e7061c863c13d74c987131dcfbe95b55a293e2cc4")),
    "en_tinyshakespeare": Task("text", (
        "1c689480b3cffce177886f7c5cf917c71cb9682ba124d27973514b8597b3cafc",
        "eff3ded1921536b4360cacff3a5cfb02ec2273a802b5a6cb75d51d31d5de3306",
        "515f58400bf8475b0d30f94b4997480bae17479ae8b6b66688df7f7371a18d02")),
    "ag_news": Task("classification", hub="fancyzhx/ag_news", splits=("train", "test")),
}  # fmt: skip
