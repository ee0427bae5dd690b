"use strict";
// Finds images by a part of their id. Results are inserted as text, never as markup.
(() => {
  const SHOWN = 20;
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("image-data").textContent);
  const box = get("image-search"), status = get("image-count"), list = get("image-hits");
  const initial = status.textContent;

  const element = (name, text, inner = []) => {
    const node = document.createElement(name);
    node.textContent = text;
    node.append(...inner);
    return node;
  };
  const link = (mark, text) => {
    if (!get(mark)) return document.createTextNode(text);
    const anchor = element("a", text);
    anchor.href = "#" + mark;
    return anchor;
  };
  const span = (first, last) => (first === last ? `${first}` : `${first}–${last}`);

  const line = ([kind, first, last, count, firstBatch, lastBatch, psnr, ssim]) => {
    const samples = last - first + 1 === count ? span(first, last) : `${count} of ${span(first, last)}`;
    const nodes = [`samples ${samples}, batch `];
    for (let batch = firstBatch; batch <= lastBatch; batch++) {
      const rejected = data.flagged[kind].includes(batch) ? " (rejected)" : "";
      if (batch > firstBatch) nodes.push(", ");
      nodes.push(link(`${data.marks[kind]}-${batch}`, `${batch}${rejected}`));
      if (batch - firstBatch > 8) { nodes.push(` to ${lastBatch}`); break; }
    }
    if (psnr !== null) nodes.push(`; PSNR ${psnr.toFixed(2)} dB`);
    if (ssim !== null) nodes.push(`, SSIM ${ssim.toFixed(3)}`);
    return element("div", `${data.kinds[kind]}: `, nodes);
  };
  const entry = ([id, split, groups]) => {
    const item = element("li", "", [element("b", id), ` (${split})`, ...groups.map(line)]);
    const seen = (data.shown[id] || []).flatMap((mark, index) => [index ? ", " : "Shown here: ", link(mark, mark.replace("-", " "))]);
    if (seen.length) item.append(element("div", "", seen));
    return item;
  };
  const find = () => {
    const query = box.value.trim().toLowerCase();
    const hits = query ? data.images.filter(([id]) => id.toLowerCase().includes(query)) : [];
    list.replaceChildren(...hits.slice(0, SHOWN).map(entry));
    const more = hits.length > SHOWN ? `; the first ${SHOWN} are below` : "";
    status.textContent = query ? `${hits.length} of ${data.images.length} images${more}.` : initial;
  };
  const applyHash = () => {
    const query = new URLSearchParams(location.hash.slice(1)).get("find"); // index.html#find=wren
    if (query !== null) box.value = query;
    find();
  };
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("input", find);
  addEventListener("hashchange", applyHash);
  applyHash(); // also searches for text restored by the browser
})();
