// The bar on top of every view: where one can go, and the theme.
import { Link, useLocation } from "wouter";

import { home_link, jobs_link, textLink } from "../url/links";
import { Button } from "./Button";
import { setTheme, useTheme, type Theme } from "./theme";
import styles from "./TopBar.module.css";

const next_theme: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const theme_icons: Record<Theme, string> = { system: "◐", light: "☀", dark: "☾" };

interface Props {
  onHelp: () => void;
  onJump: () => void;
}

export function TopBar({ onHelp, onJump }: Props) {
  const [location] = useLocation();
  const theme = useTheme();
  const isJobs = ["/jobs", "/compare", "/new/training", "/new/indexing", "/new/caching"].some((path) => location.startsWith(path));
  const isFeatures = !isJobs && ["/sae", "/f/", "/new/"].some((path) => location.startsWith(path)) || location === "/";
  return (
    <header className={styles.bar}>
      <Link href={home_link} className={styles.brand}>
        <svg width="18" height="18" viewBox="0 0 32 32" aria-hidden="true">
          <rect x="3" y="17" width="5" height="12" rx="1.5" fill="currentColor" opacity="0.45" />
          <rect x="10.5" y="5" width="5" height="24" rx="1.5" className={styles.hot} />
          <rect x="18" y="11" width="5" height="18" rx="1.5" className={styles.hot} opacity="0.6" />
          <rect x="25.5" y="21" width="4.5" height="8" rx="1.5" fill="currentColor" opacity="0.45" />
        </svg>
        Featurescope
      </Link>
      <nav className={styles.nav} aria-label="Views">
        <Link href={home_link} aria-current={isFeatures ? "page" : undefined}>
          Features
        </Link>
        <Link href={textLink()} aria-current={location === "/text" ? "page" : undefined}>
          Text
        </Link>
        <Link href={jobs_link} aria-current={isJobs ? "page" : undefined}>
          Jobs
        </Link>
      </nav>
      <div className={styles.end}>
        <Button look="quiet" onClick={onJump}>
          Go to feature <kbd>g</kbd>
        </Button>
        <Button look="quiet" onClick={onHelp} aria-label="Keyboard shortcuts and help">
          <kbd>?</kbd>
        </Button>
        <Button
          look="quiet"
          className={styles.theme}
          onClick={() => setTheme(next_theme[theme])}
          aria-label={`Theme: ${theme}. Change to ${next_theme[theme]}`}
          title={`Theme: ${theme}`}
        >
          <span aria-hidden="true">{theme_icons[theme]}</span>
        </Button>
      </div>
    </header>
  );
}
