/** Whether the walk is shown to a class: larger type, questions, and what a teacher needs between two groups. */
class Classroom {
  on = $state(false)

  /** The height of a picture: pictures give way to larger type. */
  height(usual: number): number {
    return this.on ? Math.round(0.66 * usual) : usual
  }
}

export const classroom = new Classroom()
