"""Detection of English in short texts, by letters and function words.

A template has five to fifteen words, too few for a statistical guess, but almost always an article, a
preposition or an auxiliary. So English is what is written in Latin letters and has more of the small words of
English than signs of another language: small words of the ones below that are no English words, and words in
small letters that are not plain ASCII. A single word beside the slot shows nothing, and passes without such a
sign.
"""

import re
import unicodedata

_ENGLISH = """
a about above across after against all along also although always among an and any are around as at be became
because become been before began begins behind being belongs below beside between both by called came can come
comes could did do does done down during each either else ever every for found from gave get gets gives go
goes had has have he hence her here hers him his how i if in inside into is it its just keep knew know known
knows lies made make makes may more most must named names near never next no none nor not of off often on once
one only onto or other our out over own per put same say says see seen set shall she should since so some
someone stands still such take takes tell tells than that the their them themselves then there these they this
those through to together told took toward towards under until up upon used very via was we went were what
when where which while who whom whose why will with within without would yet you your
"""
ENGLISH = frozenset(_ENGLISH.split())
_FOREIGN = """
aan aber alla als alt auf aus av avec bei beim bir ce ces cette che com con cui cuyo da dal dalla dans das dat
de degli dei del dell della delle dem den der deren des dessen det dos du e een ein eine einem einen einer
eines el ella elle en er era es est et fue fut gli het hij ich ihr il ils ist je jego jest la las le les lo
los lui maar med met mit mot na nach ne nella nicht niet och od oder oggi onun op os ou par para pas por pour
pro que qui sa sein seine seiner sich sie sind sont su sua sur tiene um una und une uno uns van ve vom von
voor wat werd wie wird wurde y z zijn zu zum zur
"""
FOREIGN = frozenset(_FOREIGN.split())

WORD = re.compile(r"[^\W\d_]+")


def is_english(text: str) -> bool:
    """True if `text` has only Latin letters, and looks more like English than not."""
    words = WORD.findall(text)
    if not all(unicodedata.name(letter, "").startswith("LATIN") for word in words for letter in word):
        return False
    english = sum(word.casefold() in ENGLISH for word in words)
    foreign = sum(word.casefold() in FOREIGN or (word.islower() and not word.isascii()) for word in words)
    return english > foreign or len(words) == 1 > foreign
