"use strict";
// Finds images by a part of their id. Everything is put into the page as text, never as markup.
(() => {
  const SHOWN = 20;
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("image-data").textContent);
  const box = get("image-search"), said = get("image-count"), list = get("image-found");
  const before = said.textContent;

  const element = (name, text, inner = []) => {
    const made = document.createElement(name);
    made.textContent = text;
    made.append(...inner);
    return made;
  };
  const link = (mark, text) => {
    if (!get(mark)) return document.createTextNode(text);
    const made = element("a", text);
    made.href = "#" + mark;
    return made;
  };
  const span = (first, last) => (first === last ? `${first}` : `${first}–${last}`);

  const line = ([place, first, last, count, firstBatch, lastBatch, psnr, ssim]) => {
    const samples = last - first + 1 === count ? span(first, last) : `${count} of ${span(first, last)}`;
    const parts = [`samples ${samples}, batch `];
    for (let batch = firstBatch; batch <= lastBatch; batch++) {
      const out = data.flagged[place].includes(batch) ? " (flagged)" : "";
      if (batch > firstBatch) parts.push(", ");
      parts.push(link(`${data.marks[place]}-${batch}`, `${batch}${out}`));
      if (batch - firstBatch > 8) { parts.push(` to ${lastBatch}`); break; }
    }
    if (psnr !== null) parts.push(`; PSNR ${psnr.toFixed(2)} dB`);
    if (ssim !== null) parts.push(`, SSIM ${ssim.toFixed(3)}`);
    return element("div", `${data.kinds[place]}: `, parts);
  };
  const entry = ([id, split, parts]) => {
    const found = element("li", "", [element("b", id), ` (${split})`, ...parts.map(line)]);
    const seen = (data.shown[id] || []).flatMap((mark, turn) => [turn ? ", " : "Shown here: ", link(mark, mark.replace("-", " "))]);
    if (seen.length) found.append(element("div", "", seen));
    return found;
  };
  const find = () => {
    const words = box.value.trim().toLowerCase();
    const hits = words ? data.images.filter(([id]) => id.toLowerCase().includes(words)) : [];
    list.replaceChildren(...hits.slice(0, SHOWN).map(entry));
    const more = hits.length > SHOWN ? `; the first ${SHOWN} are below` : "";
    said.textContent = words ? `${hits.length} of ${data.images.length} images${more}.` : before;
  };
  const asked = () => {
    const words = new URLSearchParams(location.hash.slice(1)).get("find"); // index.html#find=wren
    if (words !== null) box.value = words;
    find();
  };
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("input", find);
  addEventListener("hashchange", asked);
  asked(); // also finds what a browser kept in the box
})();
