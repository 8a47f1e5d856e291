
const search = document.querySelector(".search");
const rows = [...document.querySelectorAll("tbody tr")];
const texts = rows.map((row) => row.textContent.toLowerCase());

/** Show the rows that have all words, and say how many these are. */
function filter() {
  const words = search.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
  rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
  const left = rows.filter((row) => !row.hidden).length;
  search.querySelector("output").textContent = words.length ? `${left} of ${rows.length}` : "";
}

search.hidden = rows.length < 2;
search.addEventListener("input", filter);
filter();
