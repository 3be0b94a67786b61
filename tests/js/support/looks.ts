// How a page looks, as far as that can be measured: contrast (WCAG AA), names and sizes of
// controls, focus that shows, nothing wider than the window; light and dark, desktop and phone.
import type { Page } from 'playwright-core';

const SIZES = [{ width: 1360, height: 860 }, { width: 390, height: 844 }];

/** Runs in the page: what is wrong with what it shows now. */
function flawsOfPage(): string[] {
    type Rgba = [number, number, number, number];
    const flaws: string[] = [];
    const pen = Object.assign(document.createElement('canvas'), { width: 1, height: 1 })
        .getContext('2d', { willReadFrequently: true })!;
    const rgba = (color: string): Rgba => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top: Rgba, below: Rgba): Rgba =>
        [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1) as Rgba;
    const groundOf = (element: Element | null): Rgba => {
        if (!element) return rgba('Canvas');
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own : over(own, groundOf(element.parentElement));
    };
    const luminance = (color: Rgba): number => {
        const [r, g, b] = color.slice(0, 3).map((c) =>
            c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (color: string, ground: Rgba): number => {
        const [a, b] = [luminance(over(rgba(color), ground)), luminance(ground)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    const shown = (element: Element): boolean => (element as HTMLElement).checkVisibility(
        { opacityProperty: true, visibilityProperty: true });
    const disabled = (element: Element): boolean =>
        element.closest(':disabled, [aria-disabled="true"]') !== null;
    const what = (element: Element): string =>
        `<${element.tagName.toLowerCase()} class="${element.className}"> ` +
        (element.getAttribute('aria-label') ?? element.textContent!.slice(0, 30));
    const check = (element: Element, kind: string, color: string, ground: Rgba, least: number): void => {
        const ratio = contrast(color, ground);
        if (ratio < least) flaws.push(`${kind} ${ratio.toFixed(2)} of ${least}: ${what(element)}`);
    };

    for (const element of document.body.querySelectorAll('*')) {
        if (!shown(element) || disabled(element)) continue;
        const style = getComputedStyle(element);
        const large = parseFloat(style.fontSize) >= 24 ||
            (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
        const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent!.trim());
        if (text) check(element, 'contrast', style.color, groundOf(element), large ? 3 : 4.5);
        if (element.matches('textarea, input:not([type=checkbox], [type=range])')) {
            check(element, 'placeholder', getComputedStyle(element, '::placeholder').color, groundOf(element), 4.5);
            check(element, 'contrast', style.color, groundOf(element), 4.5);
            check(element, 'edge', style.borderTopColor, groundOf(element.parentElement), 3);
        }
    }
    for (const control of document.querySelectorAll('button, input, textarea, a[href]')) {
        if (!shown(control)) continue;
        const labels = [...((control as HTMLInputElement).labels ?? [])];
        const name = control.getAttribute('aria-label') ?? control.textContent!.trim() +
            labels.map((label) => label.textContent).join('');
        if (!name) flaws.push(`without a name: ${what(control)}`);
        const { width, height } = [control, ...labels].map((e) => e.getBoundingClientRect())
            .reduce((a, b) => (a.width * a.height > b.width * b.height ? a : b));
        if (Math.min(width, height) < (control.matches('[type=checkbox]') ? 17 : 24)) {
            flaws.push(`small, ${width} x ${height}: ${what(control)}`);
        }
    }
    const focused = document.activeElement as HTMLElement | null;
    focused?.blur(); // so that it is focused anew, as by the keyboard
    for (const control of document.querySelectorAll<HTMLElement>('button, input, textarea, [tabindex]')) {
        if (!control.isConnected || !shown(control) || control.matches(':disabled')) continue;
        control.focus({ preventScroll: true, focusVisible: true } as FocusOptions);
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(control);
        if (outlineStyle === 'none' || parseFloat(outlineWidth) < 2) flaws.push(`focus not seen: ${what(control)}`);
        else check(control, 'focus', outlineColor, groundOf(control.parentElement), 3);
    }
    focused?.focus({ preventScroll: true });
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) flaws.push(`${scrollWidth} wide in a window of ${clientWidth}`);
    return flaws;
}

/** What is wrong with the page as it is now, in each theme and size. With COULOMB_SHOTS, pictures. */
export async function flawsOf(page: Page, name: string): Promise<string[]> {
    const before = page.viewportSize();
    const flaws: string[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
        for (const size of SIZES) {
            const at = `${name}-${size.width}-${colorScheme}`;
            await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
            await page.setViewportSize(size);
            flaws.push(...(await page.evaluate(flawsOfPage)).map((flaw) => `${at}: ${flaw}`));
            const dir = process.env.COULOMB_SHOTS;
            if (dir) await page.screenshot({ path: `${dir}/${at}.png`, fullPage: true });
        }
    }
    await page.emulateMedia({ colorScheme: null, reducedMotion: null });
    if (before) await page.setViewportSize(before);
    return flaws;
}

/** Begins to measure how much of what is shown jumps; the page must not be open yet. */
export async function watchJumps(page: Page): Promise<() => Promise<number>> {
    await page.addInitScript(() => {
        (window as any).jumps = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries() as any[]) {
                if (!entry.hadRecentInput) (window as any).jumps += entry.value;
            }
        }).observe({ type: 'layout-shift', buffered: true });
    });
    return () => page.evaluate(() => (window as any).jumps);
}
