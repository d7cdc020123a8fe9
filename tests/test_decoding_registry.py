"""Every decoder class that transformers builds from a tiny config says what ``generate`` says, in float32,
with padding and without, or is refused by name. Contrastive search, which ``generate`` has no more, is held
against a loop without a cache, and ``sequence_log_prob`` against the scores of ``generate``."""

import inspect
import re
import warnings
from collections import Counter

import pytest
import torch

from tests.tiny_decoders import V, model_types, tiny
from tricks_lib.decoding import beam_search, contrastive_search, greedy_search, sequence_log_prob

NEW, PAD, T = 5, 2, 5
REFUSAL = re.compile(r"^\w+: .* (is|are) accepted")


def prompts(padded: bool):
    """Two rows, the first with two tokens of padding on the left."""
    ids = torch.randint(4, V, (2, T), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        ids[0, :2], mask[0, :2] = PAD, 0
    return ids, mask


@torch.no_grad()
def plain_contrastive(model, ids, new: int, alpha: float, k: int):
    """Su et al. 2022, equation 5, for one row, the whole prefix again for each candidate."""

    def run(ids):
        positions = {"position_ids": torch.arange(ids.shape[1])[None]} if takes_positions(model) else {}
        out = model(ids, output_hidden_states=True, use_cache=False, **positions)
        return out.logits[0, -1], out.hidden_states[-1][0]

    for _ in range(new):
        logits, past = run(ids)
        p, candidates = logits.softmax(-1).topk(k)
        rows = [torch.cat([ids, v.view(1, 1)], dim=1) for v in candidates]
        like = torch.stack([torch.cosine_similarity(run(row)[1][-1:], past).amax() for row in rows])
        ids = rows[((1 - alpha) * p - alpha * like).argmax()]
    return ids


def takes_positions(model) -> bool:
    return "position_ids" in inspect.signature(model.forward).parameters


def scored(model, ids, mask):
    """What generate says, and log p of it by its own logits."""
    options = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False}
    out = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, eos_token_id=None, **options)
    log_p = torch.stack(out.logits, dim=1).log_softmax(-1)  # (B, NEW, V)
    return out.sequences, log_p.gather(-1, out.sequences[:, T:, None]).sum(dim=(1, 2))


def verdict(theirs, ours) -> str:
    """equal, different, refused (by name), or failing (generate does)."""
    try:
        expected = theirs()
    except Exception:
        expected = None
    try:
        found = ours()
    except Exception as error:
        if isinstance(error, (TypeError, ValueError)) and REFUSAL.match(str(error)):
            return "refused"
        if expected is None:
            return "failing"
        raise
    if expected is None:
        return "failing"
    if expected.is_floating_point():
        return "equal" if torch.allclose(found, expected, rtol=1e-3, atol=1e-3) else "different"
    return "equal" if torch.equal(found, expected) else "different"


def verdicts(model) -> dict[str, str]:
    found = {}
    for padded in (False, True):
        ids, mask = prompts(padded)
        for mode, options in ((greedy_search, {}), (beam_search, {"num_beams": 3})):
            shared = {"attention_mask": mask, "max_new_tokens": NEW, **options}
            found[f"{mode.__name__}, {'padded' if padded else 'plain'}"] = verdict(
                lambda: model.generate(ids, do_sample=False, **shared),  # noqa: B023
                lambda: mode(model, ids, **shared),  # noqa: B023
            )
    if "failing" in found.values():
        return found | {"contrastive_search": "failing", "sequence_log_prob": "failing"}
    ids, mask = prompts(False)
    model.generation_config.forced_eos_token_id = None  # Bart's, which neither oracle below knows
    said, log_p = scored(model, ids, mask)
    found["contrastive_search"] = verdict(
        lambda: plain_contrastive(model, ids[:1], 3, 0.6, 3),
        lambda: contrastive_search(model, ids[:1], 3, 0.6, 3, eos_token_id=[]),
    )
    found["sequence_log_prob"] = verdict(
        lambda: log_p,
        lambda: sequence_log_prob(model, said, T, mask, eos_token_id=[]),
    )
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_decoder_class_says_what_generate_says(capsys):
    found, not_built = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model_type, name in model_types().items():
            try:
                model = tiny(model_type, name)
            except Exception as error:
                not_built[model_type] = f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"
            else:
                found[model_type] = verdicts(model)
    with capsys.disabled():
        print(f"\n{len(found)} decoder classes built, {len(not_built)} not:")
        print("\n".join(f"    {model_type}: {why}" for model_type, why in not_built.items()))
        for kind in next(iter(found.values())):
            print(f"  {kind}: {dict(Counter(verdict[kind] for verdict in found.values()))}")
            for word in ("refused", "failing", "different"):
                who = [model_type for model_type, verdict in found.items() if verdict[kind] == word]
                print(f"    {word}: {', '.join(who)}" if who else "", end="\n" if who else "")
    equal = [
        m for m, all_of in found.items() if all(v == "equal" for k, v in all_of.items() if "search, p" in k)
    ]
    assert not [(m, k) for m, all_of in found.items() for k, v in all_of.items() if v == "different"]
    assert len(found) >= 100 and len(equal) >= 100
