"""What `rapport init` writes: a configuration with every setting in sight, and a program small enough to read in a minute.

The program is text here and not a data file so that an installed wheel holds it; a test checks that it loads.
"""

from __future__ import annotations

from typing import Final

import yaml

from server.config import rows

_PROGRAM: Final = """\
# The program: what this installation says to whom. Check it with: rapport program validate program
program: starter
currency: EUR
instance_expiry: 30d
segments:
  regular: events.visit.count_30d >= 3
caps:
  - {outcome: shown, at_most: 20, per: 1d}
"""

_SCHEMA: Final = """\
# What is known of a customer, of a request, and of what happened.
namespaces:
  crm: {trust: 100, single: true}  # a person has one; who signs in with another is somebody else
  email: {normaliser: fold, trust: 50}
  cookie: {trust: 10}
  account: {trust: 90, of: household}  # names households, not customers
household:  # what its members share
  attributes: {plan: {type: enum, labels: [single, family]}}
  roles: [owner, adult, child]
attributes:
  first_name: string
  age: {type: int, protected: true}
  country: string
  city: {type: string, sources: [crm, web_form]}  # who may say so, the best first; any source where none is named
  vip: bool
facts:
  cart: money
events:
  visit: {page: string}
purposes: [marketing]
cases: [complaint]
"""

_CHANNELS: Final = """\
# Where it is said. A fallback is what a placement shows when no offer is left.
web:
  content_type: html
  placements:
    home_hero: {slots: 1, fallback: {title: Welcome, link: /}}
"""

_GROUPS: Final = """\
# Rules that offers share: a rule that does not hold removes every offer of the group.
promotions:
  consent: marketing
  paused_by_cases: [complaint]
  contact:
    caps:
      - {outcome: shown, at_most: 5, per: 7d}
    suppress:
      - {outcome: rejected, times: 2, within: 30d, pause: 30d}
service: {}
"""

_OFFERS: Final = """\
# What can be said. Priority is propensity x context weight x value x levers; the highest is shown.
- offer: newsletter
  group: service
  value: 1.00 EUR
  propensity: 0.05
  treatments:
    web.home_hero: {title: "Hello {{ has(customer.first_name) ? customer.first_name : 'there' }}", link: /newsletter}

- offer: summer_sale
  group: promotions
  eligibility:                    # may we?
    - customer.age >= 18
  applicability:                  # does it fit now?
    - segment.regular || customer.vip
  value: 20.00 EUR
  propensity: 0.1
  levers:
    - {percent: 50, when: facts.cart >= 50}
  price:
    list: 49.00 EUR
    adjustments:
      - {percent: -10, when: customer.vip}
    floor: 40.00 EUR
  treatments:
    web.home_hero: {title: "Summer sale, {{ customer.first_name }}", link: /sale}
"""


def files() -> dict[str, str]:
    """Path inside the new folder to text."""
    return {
        "rapport.yaml": configuration(),
        "program/program.yaml": _PROGRAM,
        "program/schema.yaml": _SCHEMA,
        "program/channels.yaml": _CHANNELS,
        "program/groups.yaml": _GROUPS,
        "program/offers.yaml": _OFFERS,
        "models/README": "The model repository: <name>/<version>/model.onnx and model.yaml.\n",
    }


def configuration() -> str:
    """The configuration file: every setting with its default, out of effect unless it has to be in."""
    lines = ["# Rapport's settings. Those that begin with # show the default; the environment overrides all."]
    in_effect = {"programs.path": "program"}
    section = ""
    for field, row in rows():
        head, _, name = row.key.partition(".")
        if head != section:
            section = head
            lines += [
                "",
                f"{section}:" if any(key.startswith(f"{head}.") for key in in_effect) else f"#{section}:",
            ]
        lines.append(f"  # {row.when}")
        value = in_effect.get(row.key, field.default)
        mark = "" if row.key in in_effect else "#"
        lines.append(f"{mark}  {name}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}")
    return "\n".join(lines) + "\n"
