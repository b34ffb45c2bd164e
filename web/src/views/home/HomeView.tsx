// Home: the models, SAEs and corpora of this server, and what the server is.
import { useQuery } from "@tanstack/react-query";

import { corporaQuery, modelsQuery, saesQuery } from "../../api/queries";
import { ErrorNote } from "../../ui/ErrorNote";
import { Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { textParam } from "../../url/codec";
import { useUrlState } from "../../url/useUrlState";
import { CorpusTable } from "./CorpusTable";
import styles from "./HomeView.module.css";
import { ModelTable } from "./ModelTable";
import { SaeTable } from "./SaeTable";
import { ServerCard } from "./ServerCard";

const codec = { model: textParam() };

export function HomeView() {
  usePageTitle("");
  const [{ model }, set] = useUrlState(codec);
  const models = useQuery(modelsQuery);
  const saes = useQuery(saesQuery);
  const corpora = useQuery(corporaQuery);
  const failed = [models, saes, corpora].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!models.data || !saes.data || !corpora.data) return <Loading what="the catalog" />;
  return (
    <div className={styles.page}>
      <header className={styles.head}>
        <h1>Models and sparse autoencoders</h1>
        <p>Choose an SAE to look through its features, or a model to see only its SAEs.</p>
      </header>
      <div className={styles.lists}>
        <SaeTable
          saes={model === "" ? saes.data : saes.data.filter((sae) => sae.modelId === model)}
          corpora={corpora.data}
          model={model}
          onShowAll={() => set({ model: "" })}
        />
        <ModelTable models={models.data} saes={saes.data} chosen={model} onChoose={(id) => set({ model: id })} />
        <CorpusTable corpora={corpora.data} models={models.data} />
      </div>
      <aside className={styles.side} aria-label="Server">
        <ServerCard />
      </aside>
    </div>
  );
}
