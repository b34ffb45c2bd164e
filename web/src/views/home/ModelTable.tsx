// The language models.
import type { Model, Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount, formatShort, shortHash } from "../../lib/format";
import { ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { DataTable, type Column } from "../../ui/DataTable";
import { Empty } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { addModelLink } from "../../url/links";
import styles from "./HomeView.module.css";
import { WarningSign } from "./WarningSign";

interface Props {
  models: Model[];
  saes: Sae[];
  chosen: string;
  onChoose: (id: string) => void;
}

export function ModelTable({ models, saes, chosen, onChoose }: Props) {
  const columns: Column<Model>[] = [
    {
      title: "Model",
      heads: true,
      cell: (model) => (
        <>
          <button
            type="button"
            className={styles.choose}
            aria-pressed={model.id === chosen}
            title="Show only this model's SAEs"
            onClick={() => onChoose(model.id === chosen ? "" : model.id)}
          >
            {model.id}
          </button>
          <WarningSign warnings={model.warnings} />
        </>
      ),
    },
    { title: "Architecture", cell: (model) => model.architecture },
    { title: "Parameters", numeric: true, cell: (model) => formatShort(model.nParameters) },
    { title: "Layers", numeric: true, cell: (model) => model.nLayers },
    { title: "d_model", numeric: true, cell: (model) => formatCount(model.dModel) },
    { title: "Vocabulary", numeric: true, cell: (model) => formatCount(model.dVocab) },
    { title: "Context", numeric: true, cell: (model) => formatCount(model.nCtx) },
    {
      title: "Tokenizer",
      cell: (model) =>
        model.hasTokenizer ? (
          <>
            {model.tokenizer === "" ? "yes" : model.tokenizer}
            {model.hasChatTemplate && <span className={table.muted}>, chat</span>}
          </>
        ) : (
          <span className={table.muted}>token ids only</span>
        ),
    },
    { title: "Computes in", cell: (model) => model.dtype },
    { title: "State", cell: (model) => (model.loaded ? "loaded" : "on disk") },
    {
      title: "Hash",
      className: `mono ${table.muted}`,
      cell: (model) => <span title={model.hash}>{shortHash(model.hash)}</span>,
    },
    { title: "SAEs", numeric: true, cell: (model) => saes.filter((sae) => sae.modelId === model.id).length },
  ];
  return (
    <Card title="Models" actions={<ButtonLink href={addModelLink()}>Add a model…</ButtonLink>} flush>
      {models.length === 0 ? (
        <Empty title="There is no model yet." command="featurescope model pull ORG/NAME --wait">
          <p>Add a directory in Hugging Face layout from the button above, or pull one from the hub:</p>
        </Empty>
      ) : (
        <DataTable rows={models} columns={columns} keyOf={(model) => model.id} isSelected={(model) => model.id === chosen} />
      )}
    </Card>
  );
}
