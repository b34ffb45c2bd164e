// The SAEs, what they were recognised as, and the corpora they are indexed over.
import { Link } from "wouter";

import type { Corpus, Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount } from "../../lib/format";
import { Button, ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { DataTable, type Column } from "../../ui/DataTable";
import { Empty } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { addSaeLink, indexingFormLink, saeLink, trainingFormLink } from "../../url/links";
import styles from "./HomeView.module.css";
import { WarningSign } from "./WarningSign";

interface Props {
  saes: Sae[];
  corpora: Corpus[];
  model: string;
  onShowAll: () => void;
}

export function SaeTable({ saes, corpora, model, onShowAll }: Props) {
  const columns: Column<Sae>[] = [
    {
      title: "SAE",
      heads: true,
      cell: (sae) => (
        <>
          <Link href={saeLink(sae.id)}>{sae.id}</Link>
          <WarningSign warnings={sae.warnings} />
        </>
      ),
    },
    { title: "Model", cell: (sae) => sae.modelId },
    {
      title: "Hook point",
      className: "mono",
      cell: (sae) => (sae.hookNameOut === "" || sae.hookNameOut === sae.hookName ? sae.hookName : `${sae.hookName} → ${sae.hookNameOut}`),
    },
    {
      title: "Architecture",
      cell: (sae) => (
        <>
          {sae.architecture}
          {sae.k > 0 && <span className={table.muted}> k = {sae.k}</span>}
        </>
      ),
    },
    { title: "Format", className: table.muted, cell: (sae) => sae.format },
    { title: "d_sae", numeric: true, cell: (sae) => formatCount(sae.dSae) },
    { title: "d_in", numeric: true, cell: (sae) => formatCount(sae.dIn) },
    { title: "Index", cell: (sae) => <IndexState sae={sae} corpora={corpora} /> },
  ];
  return (
    <Card
      title="Sparse autoencoders"
      note={model === "" ? undefined : `of ${model}`}
      actions={
        <>
          {model !== "" && (
            <Button look="quiet" onClick={onShowAll}>
              Show all
            </Button>
          )}
          <ButtonLink href={addSaeLink({ model })}>Add an SAE…</ButtonLink>
          <ButtonLink href={trainingFormLink({ model })}>Train an SAE…</ButtonLink>
        </>
      }
      flush
    >
      {saes.length === 0 ? (
        <Empty
          title={model === "" ? "There is no SAE yet." : `There is no SAE of ${model} yet.`}
          command={`featurescope sae add ID PATH --model ${model === "" ? "MODEL" : model}`}
        >
          <p>Train one here, or add one in any format of the field:</p>
        </Empty>
      ) : (
        <DataTable rows={saes} columns={columns} keyOf={(sae) => sae.id} />
      )}
    </Card>
  );
}

function IndexState({ sae, corpora }: { sae: Sae; corpora: Corpus[] }) {
  if (sae.vectorsOnly) return <span className={table.muted}>vectors only</span>;
  const corpus = corpora.find((c) => c.modelId === sae.modelId)?.id;
  return (
    <span className={styles.index}>
      {sae.indexedCorpora.map((id) => (
        <Link key={id} href={saeLink(sae.id, { corpus: id })} className={styles.chip}>
          <span aria-hidden="true">✓</span> {id}
        </Link>
      ))}
      {sae.indexedCorpora.length === 0 && (
        <>
          <span className={styles.none}>not indexed</span>
          <Link href={indexingFormLink({ sae: sae.id, corpus })}>Index…</Link>
        </>
      )}
    </span>
  );
}
