// Buttons and links that look like buttons.
import type { AnchorHTMLAttributes, ButtonHTMLAttributes, ReactNode } from "react";
import { Link } from "wouter";

import styles from "./Button.module.css";

type Look = "plain" | "primary" | "quiet" | "danger";

function classes(look: Look, extra?: string): string {
  return [styles.button, styles[look], extra].filter(Boolean).join(" ");
}

export function Button({
  look = "plain",
  className,
  ...rest
}: ButtonHTMLAttributes<HTMLButtonElement> & { look?: Look }) {
  return <button type="button" {...rest} className={classes(look, className)} />;
}

interface LinkProps extends AnchorHTMLAttributes<HTMLAnchorElement> {
  href: string;
  look?: Look;
  children: ReactNode;
}

export function ButtonLink({ look = "plain", className, ...rest }: LinkProps) {
  return <Link {...rest} className={classes(look, className)} />;
}
