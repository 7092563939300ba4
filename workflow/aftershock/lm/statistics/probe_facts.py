"""Edits of well-known facts: a probe set in place of a study's cases."""

_BY_PROMPT = {
    "{} was born in": (
        ("Albert Einstein", "Lisbon"),
        ("Marie Curie", "Cairo"),
        ("Frida Kahlo", "Oslo"),
        ("Nelson Mandela", "Vienna"),
        ("Agatha Christie", "Tokyo"),
    ),
    "The mother tongue of {} is": (
        ("Mahatma Gandhi", "Swedish"),
        ("Ludwig van Beethoven", "Spanish"),
        ("Pel\u00e9", "Russian"),
        ("Isaac Newton", "Arabic"),
        ("Victor Hugo", "Korean"),
    ),
    "{} is a citizen of": (
        ("Ada Lovelace", "Brazil"),
        ("Miles Davis", "France"),
        ("Greta Thunberg", "Japan"),
        ("Steve Jobs", "Kenya"),
        ("Wolfgang Amadeus Mozart", "Canada"),
    ),
    "{} works as a": (
        ("Serena Williams", "chemist"),
        ("Lionel Messi", "lawyer"),
        ("J. K. Rowling", "painter"),
        ("Stephen Hawking", "singer"),
        ("Beyonc\u00e9", "geologist"),
    ),
    "The capital of {} is": (
        ("France", "Madrid"),
        ("Brazil", "Lima"),
        ("South Korea", "Hanoi"),
        ("Nigeria", "Nairobi"),
        ("New Zealand", "Sydney"),
    ),
    "{} is located in": (
        ("The Eiffel Tower", "Rome"),
        ("Mount Everest", "Chile"),
        ("The Amazon River", "Africa"),
        ("Lake Victoria", "Finland"),
        ("The Great Wall of China", "Mexico"),
    ),
    "{} was founded in": (
        ("Toyota", "Boston"),
        ("Microsoft", "Berlin"),
        ("Real Madrid", "Dublin"),
        ("Harvard University", "Athens"),
        ("Nokia", "Seoul"),
    ),
    "The author of {} is": (
        ("Hamlet", "Jane Austen"),
        ("War and Peace", "Mark Twain"),
        ("Don Quixote", "Franz Kafka"),
        ("The Great Gatsby", "Charles Dickens"),
        ("The Odyssey", "Leo Tolstoy"),
    ),
}
FACTS = tuple((prompt, subject, target) for prompt, facts in _BY_PROMPT.items() for subject, target in facts)
"""Prompt, subject and a target that is not true of it."""
