function show(onPaper = false) {
  for (const parts of [...Parts.open]) parts.close();
  const found = find();
  showFilters(found);
  showAttention(found, onPaper);
  showCenters(found);
  showMatrix(found, onPaper);
  showVms(found);
  if (onPaper) for (const parts of Parts.open) parts.all();
}

addEventListener("beforeprint", () => show(true));
addEventListener("afterprint", () => show());

showGlance();
showLegend();
offerFilters();
byId("filters").hidden = false;
byId("main").hidden = false;
show();
document.documentElement.dataset.ready = "yes";
