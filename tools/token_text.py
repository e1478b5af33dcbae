# SPDX-License-Identifier: BSD-3-Clause
"""Writes the mixed text on which tokenizers are compared: English, code, every script of Unicode, emoji, odd white
space, numbers, spelled special tokens. The same text on every machine with the same Python (its own documentation
and library are the English and the code).

    token_text.py OUT [KILOBYTES]
"""
import os
import pydoc_data.topics
import random
import sys
import unicodedata

PHRASES = [
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.", "Größe, Maßstäbe & Übermaß: 1.234,56 €",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "いろはにほへと ちりぬるを。東京タワーは333メートルです。", "我能吞下玻璃而不傷身體。今天是2024年3月14日，天氣很好！",
    "다람쥐 헌 쳇바퀴에 타고파", "नमस्ते दुनिया, यह एक परीक्षण है।", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า", "مرحبا بالعالم، هذا اختبار ١٢٣",
    "שלום עולם, זה מבחן", "আমি কাঁচ খেতে পারি", "நான் கண்ணாடி சாப்பிடுவேன்", "ខ្ញុំអាចញុំកញ្ចក់បាន", "ကျွန်တော် မှန်စားနိုင်တယ်",
    "Tôi có thể ăn thủy tinh mà không hại gì.", "İstanbul'da ığdır; ŞŞŞ ſ K Å", "ﬁne ﬂow ½ ² № ㍿ ｆｕｌｌ ﾊﾝｶｸ",
    "I'LL we've THEY'RE don'T 'S 'ſ it’s", "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷🇯🇵 👍🏽 😀😃 ❤️ ☃ 🧑🏿‍🚀", "e\u0301 a\u0308\u0323 o\u0328\u0304 \u1e9b\u0323 \uac01 \u1100\u1161\u11a8",
    "<s> </s> <unk> <|im_start|>user<|im_end|> <|begin_of_text|> <|eot_id|> [INST] [/INST] <0x0A> ▁ ▁▁x Ġthe Ċ",
    "3.14159 1,000,000 0xDEADBEEF 1e-9 ٣٤٥ ५६७ Ⅻ ¾ ⑩ 12345678901234567890",
]
SPACES = [" ", "  ", "    ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r", " \n", "\n ", "  \n  ", "\u00a0", "\u2003", "\u3000",
          "\u200b", "\u200d", "\u2028", "\u2029", "\u0085", "\u180e", "\ufeff", "\v", "\f", "\x00", "\x1f", "\u202f ", "        "]


def assigned():
    """Characters that every engine's tables know: not those of Unicode's last few versions."""
    old = unicodedata.ucd_3_2_0
    points = [c for c in range(0x20, 0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    return [chr(c) for c in points], [chr(c) for c in points if old.category(chr(c)) != "Cn"]


def make(kilobytes=1200, seed=1):
    rnd = random.Random(seed)
    everything, _ = assigned()
    english = "\n".join(v for _, v in sorted(pydoc_data.topics.topics.items()))
    lib = os.path.dirname(os.__file__)
    code = "".join(open(os.path.join(lib, f), encoding="utf-8").read() for f in ("argparse.py", "json/decoder.py", "textwrap.py"))
    out, size = [], 0

    def put(s):
        nonlocal size
        out.append(s)
        size += len(s.encode())

    put("".join(everything[:0x3000]))
    while size < kilobytes * 1000:
        kind = rnd.randrange(8)
        if kind == 0:
            i = rnd.randrange(len(english) - 3000)
            put(english[i:i + rnd.randrange(200, 3000)])
        elif kind == 1:
            i = rnd.randrange(len(code) - 3000)
            put(code[i:i + rnd.randrange(200, 3000)])
        elif kind == 2:
            put(rnd.choice(SPACES).join(rnd.choice(PHRASES) for _ in range(rnd.randrange(1, 8))))
        elif kind == 3:
            put("".join(rnd.choice(SPACES) for _ in range(rnd.randrange(1, 12))))
        elif kind == 4:
            i = rnd.randrange(len(everything) - 200)
            put("".join(everything[i:i + rnd.randrange(1, 200)]))
        elif kind == 5:
            put("".join(rnd.choice(everything) + rnd.choice(["", "", " ", "a", "\n"]) for _ in range(rnd.randrange(1, 80))))
        elif kind == 6:
            put("".join(rnd.choice("aabcXYZ  \n'’.,;:!?()[]{}<>|/\\-_=+*&^%$#@~`0123456789éñ東") for _ in range(rnd.randrange(1, 300))))
        else:
            put(rnd.choice("a =-*#.0 東é😀") * rnd.randrange(1, 200) + rnd.choice(SPACES))
    return "".join(out)


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8", newline="") as f:
        f.write(make(int(sys.argv[2]) if len(sys.argv) > 2 else 1200))
