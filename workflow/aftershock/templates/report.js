// Start: definitions, tables and explorer; later parts of the page do not wait for what is not there.
startTips();
startMethods(); // before what follows the choice: each is drawn once
startTables();
startSequences();
const explorerPlace = document.getElementById("explorer");
const explorer = explorerPlace && new Explorer(explorerPlace);
