"""The frame of a page: its style for light and dark, headings and tables; no script, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["document", "figure", "legend", "raw", "section", "table", "tile"]

STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfb;--card:#fff;--ink:#16191d;--soft:#5a626c;
--faint:#8a929b;--rule:#e4e6e8;--grid:#eceef0;--s0:#1463cc;--s1:#c96a0b;--s2:#7b8794;--s3:#8a4fb5;
--good:#157f4a;--bad:#c22f2f;--canary:#e0a100;--shadow:#9aa6b2;--champion:#1463cc;--wash:#f3f5f7}
@media (prefers-color-scheme:dark){:root{--paper:#101317;--card:#171b20;--ink:#e9ecef;
--soft:#a3adb8;--faint:#7a8591;--rule:#2a3037;--grid:#232930;--s0:#6aa9ff;--s1:#f2a04b;--s2:#94a1ae;
--s3:#c79be8;--good:#4cc38a;--bad:#ff7b72;--canary:#e8b93b;--shadow:#65717d;--champion:#3f7fd6;
--wash:#1d2228}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Inter","Liberation Sans",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1000px;margin:0 auto;padding:48px 20px 80px}
h1{font-size:clamp(1.75rem,5vw,2.5rem);line-height:1.12;letter-spacing:-.022em;margin:.1em 0 .35em;
font-weight:680;text-wrap:balance}
h2{font-size:1.3rem;letter-spacing:-.012em;margin:0 0 .35em;font-weight:650}
h3{font-size:.92rem;margin:1.5em 0 .2em;font-weight:620}
h3 small{font-weight:400;font-size:.86rem;color:var(--soft);margin-left:.6em}
p{margin:.3em 0 .9em;max-width:68ch;text-wrap:pretty}
section{margin-top:56px}
.over{color:var(--soft);font-size:.9rem;margin:0}
.lede{font-size:1.1rem;color:var(--soft)}.lede b{color:var(--ink);font-weight:620}
.note{color:var(--soft);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(3,1fr);
margin:28px 0 0;background:var(--card);border:1px solid var(--rule);
border-radius:10px;overflow:hidden}
.tile{box-shadow:0 0 0 .5px var(--rule);padding:14px 16px 12px}
.tile b{display:block;font-size:1.6rem;line-height:1.2;font-weight:640;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.84rem;line-height:1.35;display:block}
.tile.good b{color:var(--good)}.tile.bad b{color:var(--bad)}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
figure{margin:10px 0 0}figure .scroll{margin:0 -4px}
svg{display:block;width:100%;min-width:560px;height:auto;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Inter","Liberation Sans",sans-serif;
fill:var(--ink)}svg .tick{fill:var(--soft);font-size:11px;font-variant-numeric:tabular-nums}
svg .name{font-size:12px}svg .inside{fill:#fff;font-size:11px;font-weight:600}
.grid{stroke:var(--grid)}.axis{stroke:var(--faint)}
.limit{stroke:var(--faint);stroke-dasharray:3 4}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}
.line{stroke:var(--c)}.line.s1{stroke-dasharray:6 4}.line.s2{stroke-width:1.75}
.line.s0{stroke-width:2.4}
.points circle{fill:var(--c);opacity:0}.points circle:hover{opacity:.85}
.dot{fill:var(--c)}.dot.hollow{fill:var(--card);stroke:var(--c);stroke-width:2}
.range{stroke:var(--c);stroke-width:2;opacity:.5}.bar{fill:var(--c)}
.mark line{stroke-width:1;stroke-dasharray:2 3}.mark.up{stroke:var(--good);fill:var(--good)}
.mark.down{stroke:var(--bad);fill:var(--bad)}
.stay.champion{fill:var(--champion)}.stay.shadow{fill:var(--shadow)}.stay.canary,.stay.blue_green{
fill:var(--canary)}.stay.harmful{fill:var(--bad)}.stay.shadow.harmful{fill:var(--shadow)}
rect.stay{stroke:var(--paper);stroke-width:1}
.cross path{stroke:var(--bad);stroke-width:2.5;stroke-linecap:round;fill:none}
.cross circle{opacity:0}.cross .tick{fill:var(--bad)}
.cross line{stroke:var(--bad);stroke-dasharray:2 3}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:.85rem;color:var(--soft);margin:8px 0 0;
padding:0;list-style:none}
.legend i{display:inline-block;width:18px;height:0;border-top:3px solid var(--c);margin-right:7px;
vertical-align:4px;border-radius:2px}.legend i.s1{border-top-style:dashed}
.legend i.box{height:11px;width:11px;border:0;background:var(--c);vertical-align:-1px}
.legend i.champion{--c:var(--champion)}.legend i.shadow{--c:var(--shadow)}
.legend i.canary{--c:var(--canary)}.legend i.harmful{--c:var(--bad)}
.legend i.up{--c:var(--good)}.legend i.down{--c:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th{font-weight:560;color:var(--soft);text-align:right;padding:4px 7px 6px;line-height:1.25;
vertical-align:bottom}
thead tr:first-child th[colspan]{text-align:center;border-bottom:1px solid var(--rule)}
td{padding:5px 7px;text-align:right;border-top:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
td.words,th.words{text-align:left;white-space:normal}
tr.total td{font-weight:640;border-top:2px solid var(--faint)}
td.best{color:var(--s0);font-weight:620}
.gain{display:inline-block;width:44px;margin-left:8px;text-align:left}
.gain i{display:inline-block;height:9px;background:var(--good);border-radius:1.5px}
.gain i.loss{background:var(--bad)}
.decisions td{vertical-align:top;white-space:normal;text-align:left}
.decisions td:first-child,.decisions td.version{white-space:nowrap;color:var(--soft)}
.badge{display:inline-block;font-size:.78rem;font-weight:600;padding:0 8px;border-radius:99px;
line-height:1.6;border:1px solid currentColor;color:var(--soft);white-space:nowrap}
.badge.promote{color:var(--good)}.badge.rollback,.badge.reject,.badge.alert{color:var(--bad)}
.badge.canary,.badge.blue_green,.badge.shadow{color:var(--s1)}.badge.train{color:var(--s0)}
details{margin:4px 0 0}summary{cursor:pointer;color:var(--soft);font-size:.84rem}
summary:hover{color:var(--ink)}details.more>summary{font-size:.95rem;margin:14px 0 6px}
.evidence{background:var(--wash);border-radius:8px;padding:8px 12px;margin:6px 0 8px;
font-size:.82rem;overflow-x:auto}
.evidence table{font-size:.8rem;width:auto;margin:2px 0 8px}
.evidence td,.evidence th{padding:2px 12px 2px 0;text-align:left}
.chips{display:flex;flex-wrap:wrap;gap:4px 8px}.chips span{background:var(--wash);border-radius:6px;
padding:0 8px}
pre{background:var(--wash);border-radius:10px;padding:14px 16px;overflow-x:auto;font:13.5px/1.6
ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;margin:10px 0}
code{font:.86em ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
overflow-wrap:anywhere}
.stopped{border-left:3px solid var(--bad);padding:2px 0 2px 14px;margin:16px 0}
.stopped p{margin:.15em 0}
.columns{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:14px;margin-top:18px}
.column{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 16px}
.column h3{margin:0;display:flex;justify-content:space-between;gap:12px;overflow-wrap:anywhere}
.column h3 small{margin:0;white-space:nowrap}
.column svg{min-width:0;margin:8px 0 4px}.column p{margin:2px 0 0;font-size:.84rem}
.column .facts{color:var(--soft);font-variant-numeric:tabular-nums}.column .bad{color:var(--bad)}
.median{stroke:var(--ink);stroke-width:1;stroke-dasharray:2 3}.bar.away{fill:var(--s1)}
.hole{fill:var(--s1)}.whole{fill:var(--grid)}
.findings{list-style:none;margin:14px 0 0;padding:0}
.findings li{border-left:3px solid var(--s1);padding:1px 0 1px 14px;margin:0 0 12px}
.findings li.bad{border-color:var(--bad)}.findings b{font-weight:620}
footer{margin-top:64px;color:var(--soft);font-size:.84rem;border-top:1px solid var(--rule);
padding-top:14px}
@media (max-width:560px){main{padding:28px 16px 56px}section{margin-top:44px}
.columns{grid-template-columns:minmax(0,1fr)}
.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:1.35rem}
.decisions,.decisions tbody,.decisions tr,.decisions td{display:block;padding:0;border:0}
.decisions thead{display:none}.decisions tr{border-top:1px solid var(--rule);padding:8px 0}
.decisions td{display:inline-block;margin-right:8px}.decisions td:last-child{display:block}}
@media print{.scroll{overflow:visible}details>*{display:block}}
"""


def document(title: str, body: Iterable[str]) -> str:
    """Return a whole page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def section(heading: str, words: str, *parts: str) -> str:
    """Return a section with an introduction; empty if it would hold nothing.

    >>> section("Drift", "What moved.", "", "")
    ''
    """
    held = "".join(parts)
    intro = f"<p>{words}</p>" if words else ""
    return f"<section><h2>{escape(heading)}</h2>{intro}{held}</section>" if held else ""


def figure(title: str, picture: str, note: str = "") -> str:
    """Return a picture that scrolls by itself on a narrow screen."""
    if not picture:
        return ""
    aside = f" <small>{escape(note)}</small>" if note else ""
    head = f"<h3>{escape(title)}{aside}</h3>" if title else ""
    return f'<figure>{head}<div class="scroll">{picture}</div></figure>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Return the meaning of colours; each entry is (class, name)."""
    items = "".join(f'<li><i class="{style}"></i>{escape(name)}</li>' for style, name in entries)
    return f'<ul class="legend">{items}</ul>' if entries else ""


def tile(value: str, words: str, style: str = "") -> str:
    """Return one headline number."""
    return f'<div class="tile {style}"><b>{escape(value)}</b><span>{escape(words)}</span></div>'


def raw(cells: Iterable[str], tag: str = "td") -> str:
    """Return cells of HTML; a cell may begin with its class in braces, as in `{words}text`."""
    made = ""
    for cell in cells:
        style = ""
        if cell.startswith("{"):
            style, _, cell = cell[1:].partition("}")
        made += f'<{tag} class="{style}">{cell}</{tag}>' if style else f"<{tag}>{cell}</{tag}>"
    return made


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = False, over: str = ""
) -> str:
    """Return a table of HTML cells; `total` marks the last row, `over` is a row above the head."""
    if not rows:
        return ""
    body = ""
    for index, row in enumerate(rows):
        style = ' class="total"' if total and index == len(rows) - 1 else ""
        body += f"<tr{style}>{raw(row)}</tr>"
    return (
        f'<div class="scroll"><table><thead>{over}<tr>{raw(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
