// The frame of all views: routes, the top bar, and the dialogs that any view can open.
import { lazy, Suspense, useState } from "react";
import { Route, Switch } from "wouter";

import styles from "./App.module.css";
import { HelpDialog } from "./ui/HelpDialog";
import { JumpDialog } from "./ui/JumpDialog";
import { Empty, Loading } from "./ui/Notes";
import { TopBar } from "./ui/TopBar";
import { useShortcut } from "./ui/shortcuts";
import { FeatureView } from "./views/feature/FeatureView";
import { HomeView } from "./views/home/HomeView";
import { SaeView } from "./views/sae/SaeView";
import { TextView } from "./views/text/TextView";

const JobsView = lazy(() => import("./views/jobs/JobsView"));
const JobView = lazy(() => import("./views/jobs/JobView"));
const CompareView = lazy(() => import("./views/runs/CompareView"));
const CachingForm = lazy(() => import("./views/train/CachingForm"));
const TrainingForm = lazy(() => import("./views/train/TrainingForm"));
const IndexingForm = lazy(() => import("./views/jobs/IndexingForm"));
const AddModelForm = lazy(() => import("./views/add/AddModelForm"));
const AddSaeForm = lazy(() => import("./views/add/AddSaeForm"));
const AddCorpusForm = lazy(() => import("./views/add/AddCorpusForm"));

export function App() {
  const [dialog, setDialog] = useState<"help" | "jump" | null>(null);
  useShortcut("?", () => setDialog("help"));
  useShortcut("g", () => setDialog("jump"));
  useShortcut("/", () => setDialog("jump"));
  return (
    <>
      <a className={styles.skip} href="#main">
        Skip to the content
      </a>
      <TopBar onHelp={() => setDialog("help")} onJump={() => setDialog("jump")} />
      <main id="main" className={styles.main} tabIndex={-1}>
        <Suspense fallback={<Loading what="the page" />}>
          <Switch>
            <Route path="/">{() => <HomeView />}</Route>
            <Route path="/sae/:sae">{({ sae }) => <SaeView key={sae} sae={sae} />}</Route>
            <Route path="/f/:sae/:feature">
              {({ sae, feature }) => <FeatureView sae={sae} feature={Number(feature)} />}
            </Route>
            <Route path="/text">{() => <TextView />}</Route>
            <Route path="/jobs">{() => <JobsView />}</Route>
            <Route path="/jobs/:job">{({ job }) => <JobView key={job} id={job} />}</Route>
            <Route path="/compare">{() => <CompareView />}</Route>
            <Route path="/new/caching">{() => <CachingForm />}</Route>
            <Route path="/new/training">{() => <TrainingForm />}</Route>
            <Route path="/new/indexing">{() => <IndexingForm />}</Route>
            <Route path="/new/model">{() => <AddModelForm />}</Route>
            <Route path="/new/sae">{() => <AddSaeForm />}</Route>
            <Route path="/new/corpus">{() => <AddCorpusForm />}</Route>
            <Route>{() => <Empty title="There is no page at this address." />}</Route>
          </Switch>
        </Suspense>
      </main>
      {dialog === "help" && <HelpDialog onClose={() => setDialog(null)} />}
      {dialog === "jump" && <JumpDialog onClose={() => setDialog(null)} />}
    </>
  );
}
