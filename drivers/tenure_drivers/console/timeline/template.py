"""The HTML page around a timeline: markup, style and script.  `page.py` fills in each `$name`."""

from __future__ import annotations

from string import Template
from typing import Final

__all__ = ["PAGE"]


STYLE: Final = """
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d2327;--soft:#66707a;--line:#e3e6e8;--bad:#c4262e;--ok:#1f7a4d;
--w0:#8b949e;--w1:#2f6fde;--w2:#d9820f;--w3:#1c9a7a;--w4:#8a4fd3;--w5:#c2478a;--w6:#6b8e23;--w7:#0e8fb3;--w8:#a4683f}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2125;--ink:#e6e9eb;--soft:#98a2ab;--line:#2d3439;--bad:#ff6b6b;--ok:#5fd39a;
--w0:#7d8790;--w1:#6ea3ff;--w2:#f2a945;--w3:#43c9a5;--w4:#b58bf2;--w5:#ee86bd;--w6:#a9c95c;--w7:#55c3e4;--w8:#d39a72}}
*{box-sizing:border-box}body{margin:0;padding:28px 32px 60px;background:var(--bg);color:var(--ink);font:14px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:22px;margin:0 0 4px;letter-spacing:-.01em}h1 .seal{font-size:13px;font-weight:600;padding:3px 10px;border-radius:99px;margin-left:10px;vertical-align:3px}
.good .seal{background:color-mix(in srgb,var(--ok) 16%,transparent);color:var(--ok)}.bad .seal{background:color-mix(in srgb,var(--bad) 16%,transparent);color:var(--bad)}
.good .seal::after{content:"everything that must be zero is zero"}.bad .seal::after{content:"something is wrong"}
p{margin:0 0 18px;color:var(--soft);max-width:110ch}
.figures{display:flex;flex-wrap:wrap;gap:10px 22px;margin-bottom:20px}.figures>div>div{display:flex;flex-wrap:wrap;gap:6px}h3{font-size:11.5px;font-weight:600;color:var(--soft);margin:0 0 5px;letter-spacing:.02em}.figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:5px 10px 5px;min-width:62px}
.figure b{display:block;font-size:19px;line-height:1.2;font-variant-numeric:tabular-nums}.figure span{font-size:11.5px;color:var(--soft)}
.figure.ok b{color:var(--ok)}.figure.wrong{border-color:var(--bad)}.figure.wrong b,.figure.wrong span{color:var(--bad)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 18px 10px}
.legend{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;font-size:12px;color:var(--soft);padding-bottom:10px;border-bottom:1px solid var(--line);margin-bottom:8px}
.legend svg{vertical-align:-5px;margin-right:5px}.chip{font:inherit;color:var(--ink);background:none;border:1px solid var(--line);border-radius:99px;padding:2px 11px 2px 8px;cursor:pointer}
.chip.on{border-color:var(--ink)}.chip i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;background:var(--w)}
.zoom{margin-left:auto}.zoom button{font:inherit;color:var(--ink);background:none;border:1px solid var(--line);border-radius:6px;padding:1px 9px;cursor:pointer}
.w0{--w:var(--w0)}.w1{--w:var(--w1)}.w2{--w:var(--w2)}.w3{--w:var(--w3)}.w4{--w:var(--w4)}.w5{--w:var(--w5)}.w6{--w:var(--w6)}.w7{--w:var(--w7)}.w8{--w:var(--w8)}
svg{display:block}svg text{font:12px ui-monospace,"SF Mono",Menlo,monospace;fill:var(--ink)}svg text.small{font-size:11px;fill:var(--soft)}text.link{cursor:pointer}text.link:hover,text.link.on{text-decoration:underline}
#plot{cursor:grab}#grid line{stroke:var(--line)}#grid text{font-size:10.5px;fill:var(--soft)}.rule{stroke:var(--line)}
.admitted{fill:none;stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 3;vector-effect:non-scaling-stroke}.answered{fill:color-mix(in srgb,var(--ok) 22%,transparent);stroke:var(--ok);stroke-width:1.4;vector-effect:non-scaling-stroke}
.life{fill:var(--w)}.pause{fill:var(--card);stroke:var(--w);stroke-dasharray:3 2.5}
.lease{fill:color-mix(in srgb,var(--w) 26%,transparent)}.run{fill:var(--w)}.gone{fill:color-mix(in srgb,var(--w) 7%,transparent);stroke:var(--w);stroke-dasharray:3 2.5;stroke-width:1}
.asleep{fill:color-mix(in srgb,var(--card) 70%,transparent)}.input{fill:var(--soft)}.commit{fill:var(--card);stroke:var(--w);stroke-width:1.6}
.kill{fill:none;stroke:var(--bad);stroke-width:2.4;stroke-linecap:round}.halt{fill:none;stroke:var(--bad);stroke-width:2.2;stroke-linecap:round}.takeover{fill:var(--w);stroke:var(--w);stroke-width:1.6}
.refused circle{fill:var(--card);stroke:var(--bad);stroke-width:2}.refused path{stroke:var(--bad);stroke-width:2}
.only [data-a]{opacity:.12}.only .mine{opacity:1}[data-d]:hover{filter:brightness(1.15)}
#tip{position:fixed;pointer-events:none;white-space:pre;background:var(--ink);color:var(--bg);font:12px/1.45 ui-monospace,Menlo,monospace;padding:7px 10px;border-radius:6px;display:none;z-index:2;max-width:60ch;overflow:hidden}
#events-of{margin-top:18px}#events-of table{border-collapse:collapse;font:12px ui-monospace,Menlo,monospace}#events-of td,#events-of th{text-align:left;padding:3px 14px 3px 0;border-bottom:1px solid var(--line)}#events-of th{color:var(--soft);font-weight:500}
#events-of tr.run_finished td{color:var(--ok)}#events-of tr.lease_lost td{color:var(--bad)}h2{font-size:15px;margin:0 0 8px}
"""

SCRIPT: Final = """
const svg=document.getElementById('drawing'),plot=document.getElementById('plot'),curve=document.getElementById('curve'),grid=document.getElementById('grid'),tip=document.getElementById('tip');
const span=+svg.dataset.span,gutter=+svg.dataset.gutter,timed=[...plot.querySelectorAll('[data-a]')],events=JSON.parse(document.getElementById('events').textContent);
const full=()=>[-span*.006,span*1.012];let from,length,wide=1000;
const X=ms=>(ms-from)*wide/length;
function lay(){wide=Math.max(svg.parentNode.clientWidth-gutter-38,300);svg.setAttribute('width',gutter+wide);plot.setAttribute('width',wide);
for(const e of timed){const a=X(+e.dataset.a);if(e.tagName==='rect'){e.setAttribute('x',a);e.setAttribute('width',Math.max(X(+e.dataset.b)-a,1.5))}else e.setAttribute('transform',`translate(${a} ${e.dataset.y})`)}
curve.setAttribute('x',X(0));curve.setAttribute('width',X(span)-X(0));ticks()}
function ticks(){const raw=length/(wide/90),p=10**Math.floor(Math.log10(raw)),step=[1,2,5,10].map(k=>k*p).find(s=>s>=raw),h=grid.dataset.height;let out='';
for(let t=Math.max(0,Math.ceil(from/step)*step);t<=Math.min(span,from+length);t+=step)out+=`<line x1="${X(t)}" x2="${X(t)}" y1="0" y2="${h}"/><text x="${X(t)+3}" y="72">${+(t/1000).toFixed(3)} s</text>`;grid.innerHTML=out}
function zoom(k,at){const t=from+at*length/wide;length=Math.min(Math.max(length*k,20),full()[1]);from=t-at*length/wide;keep();lay()}
function keep(){const[a,l]=full();from=Math.min(Math.max(from,a),a+l-length)}
plot.addEventListener('wheel',e=>{if(!e.ctrlKey&&!e.shiftKey)return;e.preventDefault();zoom(Math.exp((e.deltaY||e.deltaX)*.002),e.clientX-plot.getBoundingClientRect().left)},{passive:false});
let grip=null;plot.onpointerdown=e=>{grip=[e.clientX,from]};onpointermove=e=>{if(!grip)return;from=grip[1]-(e.clientX-grip[0])*length/wide;keep();lay()};onpointerup=()=>grip=null;
document.querySelectorAll('[data-zoom]').forEach(b=>b.onclick=()=>{const k=+b.dataset.zoom;if(k)zoom(k,wide/2);else reset()});
function reset(){[from,length]=full();lay()}
svg.onmousemove=e=>{const d=e.target.closest('[data-d]');if(!d){tip.style.display='none';return}tip.textContent=d.dataset.d;tip.style.display='block';
tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';tip.style.top=Math.min(e.clientY+16,innerHeight-tip.offsetHeight-8)+'px'};svg.onmouseleave=()=>tip.style.display='none';
document.querySelectorAll('[data-only]').forEach(b=>b.onclick=()=>{const on=!b.classList.contains('on');document.querySelectorAll('[data-only]').forEach(c=>c.classList.remove('on'));b.classList.toggle('on',on);
svg.classList.toggle('only',on);for(const e of timed)e.classList.toggle('mine',on&&e.classList.contains('w'+b.dataset.only))});
const cell=(row,text,kind='td')=>{row.appendChild(document.createElement(kind)).textContent=text};
document.querySelectorAll('[data-session]').forEach(n=>n.onclick=()=>{document.querySelectorAll('.link.on').forEach(m=>m.classList.remove('on'));n.classList.add('on');const s=n.dataset.session,box=document.getElementById('events-of'),t=document.createElement('table');
box.replaceChildren(document.createElement('h2'),t);box.firstChild.textContent=`Events of ${s}`;const head=t.insertRow();['no.','at','event','run','inputs','detail'].forEach(h=>cell(head,h,'th'));
for(const e of events[s]){const r=t.insertRow();r.className=e[2];e.forEach((v,i)=>cell(r,i===1?`${(v/1000).toFixed(3)} s`:v))}box.scrollIntoView({behavior:'smooth',block:'nearest'})});
onresize=lay;reset();
"""

KEYS: Final = """
<span><svg width="12" height="12" style="display:inline"><g transform="translate(6 4)" class="input"><path d="M-3 0H3L0 5Z"/></g></svg>input admitted</span>
<span><svg width="26" height="14" style="display:inline" class="w1"><rect class="lease" y="1" width="26" height="12" rx="2"/><rect class="run" x="2" y="4" width="18" height="6" rx="2"/><g class="commit" transform="translate(20 7)"><circle r="2.6"/></g></svg>lease, runs, commits</span>
<span><svg width="14" height="14" style="display:inline"><g class="kill" transform="translate(7 7)"><path d="M-4-4L4 4M-4 4L4-4"/></g></svg>killed</span>
<span><svg width="10" height="14" style="display:inline"><g class="halt" transform="translate(5 7)"><path d="M-2-5V5M2-5V5"/></g></svg>stopped</span>
<span><svg width="26" height="14" style="display:inline" class="w1"><rect class="gone" x="1" y="1" width="24" height="12" rx="2"/></svg>lease of a killed or stopped holder</span>
<span><svg width="12" height="20" style="display:inline" class="w2"><g class="takeover" transform="translate(4 10)"><path d="M-1-10V10M-1-10L6-6.5L-1-3Z"/></g></svg>takeover</span>
<span><svg width="14" height="14" style="display:inline"><g class="refused" transform="translate(7 7)"><circle r="5.2"/><path d="M-3.6 3.6L3.6-3.6"/></g></svg>late write refused</span>
"""

PAGE: Final = Template(
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width"><title>$title</title><style>"""
    + STYLE.replace("$", "$$")
    + """</style></head><body class="$verdict"><h1>$title<span class="seal"></span></h1><p>$sentence</p>
<div class="figures">$figures</div><div class="card"><div class="legend">$legend"""
    + KEYS
    + """<span class="zoom"><button data-zoom="0.5">+</button> <button data-zoom="2">&minus;</button> <button data-zoom="0">all</button></span></div>
$drawing</div><div id="events-of"><p>Hover for details.  Drag to move.  Use Ctrl and the wheel to zoom.  Click a session to list its events.</p></div><div id="tip"></div>
<script type="application/json" id="events">$events</script><script>"""
    + SCRIPT.replace("$", "$$")
    + """</script></body></html>
"""
)
