"""What may be asked for and shown, judged offline from the installed package.  Source: docs/spec/policy-v1.md.

Pure once opened: the same input and the same bundle give the same verdict, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fluxctx.domain import Action, Finding, RawImage, Verdict
from fluxctx.errors import InvalidRequest, PolicyDamaged
from fluxctx.policy.bundle import Bundle, Category, load_packaged
from fluxctx.policy.normalise import Canonical, canonicalise
from fluxctx.policy.rules import Hit, apply

PROFILES = ("local", "hosted", "payments", "strict")
MILDEST_FIRST = (Action.ALLOW, Action.LOG, Action.REVIEW, Action.BLOCK)
NEGATIVE = "negative_prompt"
UNDRESSABLE = ("minor", "real_person", "acquaintance")
ClassifyImage = Callable[[RawImage], float]
EXPLICIT_AT, SUGGESTIVE_AT = 0.8, 0.5  # open_nsfw scores; Yahoo's own reading of them


class PolicyFilter:
    """One profile of one bundle, ready to judge."""

    def __init__(self, bundle: Bundle, profile: str, classify_image: ClassifyImage | None) -> None:
        self._bundle, self._profile, self._classify = bundle, profile, classify_image

    @property
    def full_strength(self) -> bool:
        """Whether nothing of the packaged policy was weakened: what models ask for whose licence demands a filter."""
        return all(category.action[self._profile] is Action.BLOCK for category in self._bundle.locked)

    def check_text(self, fields: Mapping[str, str]) -> Verdict:
        """Judge every text of a request: each field, all of them together, the negative prompt apart."""
        texts = {name: text for name, text in fields.items() if text and name != NEGATIVE}
        judged = {name: canonicalise(text) for name, text in texts.items()}
        findings: dict[str, tuple[Finding, Action]] = {}
        for name, canonical in judged.items():
            for hit in apply(self._bundle.rules, self._bundle.lexicon, canonical):
                findings.setdefault(hit.rule.id, self._finding(hit, name))
        if len(texts) > 1:
            self._together(texts, findings)
        if fields.get(NEGATIVE):
            self._negative(judged.values(), canonicalise(fields[NEGATIVE]), findings)
        return self._verdict(findings.values())

    def _together(self, texts: Mapping[str, str], findings: dict[str, tuple[Finding, Action]]) -> None:
        """Words that were spread over several fields; the span is in the field where they begin."""
        names = sorted(texts)
        starts, whole = [], ""
        for name in names:
            starts.append(len(whole))
            whole += texts[name] + "\n"
        for hit in apply(self._bundle.rules, self._bundle.lexicon, canonicalise(whole)):
            index = max(i for i, start in enumerate(starts) if start <= hit.start)
            begin = hit.start - starts[index]
            end = min(hit.end - starts[index], len(texts[names[index]]))
            here = Hit(rule=hit.rule, start=begin, end=end, hidden=hit.hidden)
            findings.setdefault(hit.rule.id, self._finding(here, names[index]))

    def _negative(
        self, judged: Iterable[Canonical], negative: Canonical, findings: dict[str, tuple[Finding, Action]]
    ) -> None:
        """Sexual words there keep them out of the picture; clothes there take them off somebody."""
        places = [
            place for place in self._bundle.lexicon.classes_of(negative.tokens) if place[2] == "clothing"
        ]
        if not places:
            return
        people = {name for text in judged for _, _, name in self._bundle.lexicon.classes_of(text.tokens)}
        for who in (name for name in UNDRESSABLE if name in people):
            category = "minors_sexual" if who == "minor" else "ncii"
            first = negative.tokens[places[0][0]]
            span = (first.start, first.end)
            finding = Finding(
                category=category,
                rule=f"{who}-undressed-by-negative",
                score=1.0,
                locked=True,
                field=NEGATIVE,
                span=span,
            )
            findings.setdefault(finding.rule, (finding, Action.BLOCK))

    def _finding(self, hit: Hit, field: str) -> tuple[Finding, Action]:
        category = self._bundle.categories[hit.rule.category]
        finding = Finding(
            category=category.id,
            rule=hit.rule.id,
            score=1.0,
            locked=category.locked,
            field=field,
            span=(hit.start, hit.end),
        )
        return finding, self._action(category, evaded=hit.hidden)

    def _action(self, category: Category, *, evaded: bool) -> Action:
        """The category's action; what somebody took care to hide is judged one step harder, at most a review more."""
        action = category.action[self._profile]
        if evaded and action is not Action.ALLOW:
            return MILDEST_FIRST[min(MILDEST_FIRST.index(action) + 1, len(MILDEST_FIRST) - 1)]
        return action

    def check_image(self, image: RawImage, *, stage: str) -> Verdict:
        """Judge pixels (`stage` is upload, result or preview); a score may raise a verdict, never lower one."""
        if self._classify is None:
            return self._verdict(())
        score = float(self._classify(image))
        if not 0.0 <= score <= 1.0:
            raise PolicyDamaged("the picture classifier gave no score", hint="reinstall fluxctx")
        name = "sexual_explicit" if score >= EXPLICIT_AT else "suggestive" if score >= SUGGESTIVE_AT else None
        if name is None:
            return self._verdict(())
        category = self._bundle.categories[name]
        rule = f"pixels-{stage}"
        finding = Finding(
            category=name, rule=rule, score=round(score, 4), locked=category.locked, field=stage
        )
        return self._verdict([(finding, category.action[self._profile])])

    def _verdict(self, judged: Iterable[tuple[Finding, Action]]) -> Verdict:
        ordered = sorted(
            judged, key=lambda pair: (-MILDEST_FIRST.index(pair[1]), pair[0].category, pair[0].rule)
        )
        return Verdict(
            action=ordered[0][1] if ordered else Action.ALLOW,
            findings=tuple(finding for finding, _ in ordered),
            policy_id=self._bundle.id,
            policy_revision=self._bundle.revision,
        )

    def describe(self) -> dict[str, Any]:
        """What is in force: {id, revision, profile, categories}."""
        rows = [
            {
                "category": category.id,
                "action": str(category.action[self._profile]),
                "severity": category.severity,
                "locked": category.locked,
            }
            for category in self._bundle.categories.values()
        ]
        facts = {"id": self._bundle.id, "revision": self._bundle.revision, "digest": self._bundle.digest}
        return facts | {"profile": self._profile, "categories": rows}


def open_filter(*, profile: str, classify_image: ClassifyImage | None = None) -> PolicyFilter:
    """The packaged policy under a profile; raises InvalidRequest, PolicyDamaged."""
    if profile not in PROFILES:
        raise InvalidRequest("no such policy profile", hint="one of " + ", ".join(PROFILES))
    return PolicyFilter(load_packaged(), profile, classify_image)
