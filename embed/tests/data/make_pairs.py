"""Makes pairs.jsonl: 32 texts with the vectors that sentence-transformers gives them under all-MiniLM-L6-v2.

    pip install sentence-transformers
    python make_pairs.py MODEL_DIRECTORY_OR_NAME > pairs.jsonl

The texts differ in length (none, one character, beyond the 256 tokens the model reads) and script. Each is encoded alone, on
the CPU, in float32. A vector is written as the base64 of its little-endian float32 values.
"""

import base64
import json
import sys

import numpy as np
from sentence_transformers import SentenceTransformer

LONG = (
    "The trail climbs out of the valley through larch and pine before it reaches the first hut, where water is "
    "always cold and the bread is baked twice a week; from there it is four hours to the pass. "
)

TEXTS = [
    "",
    " ",
    "a",
    "?",
    "Trail shoe, 240 g",
    "training for a marathon",
    "How do I reduce the bitterness of an IPA that was dry-hopped for too long?",
    "I LOVE this keyboard!!! Best purchase of 2023 :-)",
    "the the the the the the the the",
    "A man with a hard hat is dancing.",
    "A man wearing a hard hat is dancing.",
    "sudo apt-get install --reinstall linux-headers-$(uname -r) && dkms autoinstall # fails with error 404",
    "https://example.org/a/b?c=d&e=f#g user@example.org +49 (0)30 1234-567",
    "Ça coûte 12,50 € à la brûlerie, n'est-ce pas ? Déjà vu, naïve façade.",
    "Straße, Übergröße, Fußgängerübergang, Donaudampfschifffahrtsgesellschaft",
    "El niño comió piñas mañana por la mañana; ¿cuándo volverá?",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "素早い茶色の狐はのろまな犬を飛び越える。",
    "快速的棕色狐狸跳过懒狗。價格是三百元。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول",
    "השועל החום המהיר קופץ מעל הכלב העצלן",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है",
    "🏃‍♀️🥾⛰️ great run today 😀😀 #trail",
    "tab\tnewline\nreturn\rnull-like \u200b zero width \ufeff mark \u00a0 no-break",
    "supercalifragilisticexpialidocious" * 5,
    "x" * 300,
    "[CLS] special words [SEP] in the text [MASK] [PAD] [UNK]",
    "1234567890 3.14159 1e-9 0xdeadbeef 12:30 2026-01-02T03:04:05Z",
    LONG * 2,
    LONG * 12,
]

assert len(TEXTS) == 32
model = SentenceTransformer(sys.argv[1], device="cpu")
assert model.max_seq_length == 256
for text in TEXTS:
    vector = model.encode([text], convert_to_numpy=True)[0].astype("<f4")
    assert abs(np.linalg.norm(vector) - 1) < 1e-5
    print(json.dumps({"text": text, "vector": base64.b64encode(vector.tobytes()).decode()}))
